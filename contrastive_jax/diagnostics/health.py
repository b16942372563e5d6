"""Is this loss normal, and did the embedding collapse? One word for it."""

import math
from collections.abc import Container
from typing import Any

# Besides 'ok', and 'not finite', which ends a run.
VERDICTS = {'at chance', 'partial collapse', 'collapsed'}

# Of the larger of 1 and the chance value: a loss nearer to it learned nothing.
_AT_CHANCE = 0.01
# Until then a loss may well be where chance is.
_GRACE_STEPS = 200
# Spread of the embedding: 1 is even. Healthy runs of all objectives stayed
# above 0.33, from their first steps on.
_COLLAPSED_SPREAD = 0.15
_PARTIAL_SPREAD = 0.25
# An objective's own gauge, from 0 to 1.
_COLLAPSED_GAUGE = 0.05
# Effective rank and RankMe; healthy runs stayed above 10.
_PARTIAL_RANK = 3.0


class Collapsed(RuntimeError):
  """A run was stopped because its embedding collapsed."""

  def __init__(self, sentence: str, report: dict[str, Any]):
    """Keeps the report that showed it."""
    super().__init__(sentence)
    self.report = report


def verdict(
  report: dict[str, Any], *, total_steps: int, known: Container[str]
) -> str:
  """Returns 'ok', 'at chance', 'partial collapse', 'collapsed', 'not finite'.

  Args:
    report: step, loss, chance_loss, and of `embedding.statistics` spread,
      effective_rank and rankme; collapse_gauge (1 healthy, 0 collapsed) where
      the objective has one of its own.
    total_steps: of the run. 'at chance' is only said from step 200 on, or at
      the end of a shorter run: no run learns at once.
    known: the verdicts that this objective can have, of `Objective.causes`.

  Returns:
    The verdict.

  Reference:
    Chen & He 2020 (SimSiam, arXiv 2011.10566), section 4.1, for the spread;
    the thresholds are ours, measured on runs of every objective.
  """
  if not math.isfinite(report['loss']):
    return 'not finite'
  spread = report['embedding_spread']
  gauge = report.get('collapse_gauge', 1.0)
  # Written so that a NaN is an alarm.
  alive = spread >= _COLLAPSED_SPREAD and gauge >= _COLLAPSED_GAUGE
  if 'collapsed' in known and not alive:
    return 'collapsed'
  rank = min(report['effective_rank'], report['rankme'])
  whole = spread >= _PARTIAL_SPREAD and rank >= _PARTIAL_RANK
  if 'partial collapse' in known and not whole:
    return 'partial collapse'
  margin = _AT_CHANCE * max(1.0, abs(report['chance_loss']))
  if (
    'at chance' in known
    and report['step'] >= min(_GRACE_STEPS, total_steps)
    and report['loss'] >= report['chance_loss'] - margin
  ):
    return 'at chance'
  return 'ok'
