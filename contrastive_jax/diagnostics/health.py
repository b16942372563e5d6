"""Is this loss normal, and did the embedding collapse? One word for it."""

import math
from typing import Any

# A loss this close to its chance value has learned nothing yet.
_AT_CHANCE = 0.99
# Standard deviation of a normalised embedding's dimensions, as a share of
# 1/sqrt(d), which an even spread over the sphere has.
_COLLAPSED = 0.05


def verdict(report: dict[str, Any]) -> str:
  """Returns 'ok', 'at chance', 'collapsed' or 'not finite'.

  Args:
    report: loss, chance_loss, and embedding_spread (mean standard deviation of
      the normalised embedding's dimensions times sqrt(d): 1 for an even spread
      over the sphere, 0 for one point) where the objective measures it.

  Returns:
    The verdict.

  Reference:
    Chen & He 2020 (SimSiam, arXiv 2011.10566), section 4.1, for the spread.
  """
  if not math.isfinite(report['loss']):
    return 'not finite'
  if report.get('embedding_spread', 1.0) < _COLLAPSED:
    return 'collapsed'
  if report['loss'] >= _AT_CHANCE * report['chance_loss']:
    return 'at chance'
  return 'ok'
