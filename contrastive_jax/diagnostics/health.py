"""Is this loss normal, and did the embedding collapse? One word for it."""

import math
from collections.abc import Container, Sequence
from typing import Any

from contrastive_jax.config import Error

# Besides 'ok', 'too early' and 'not finite', which ends a run.
VERDICTS = {'at chance', 'partial collapse', 'collapsed'}

# Of the larger of 1 and the chance value: a loss nearer to it learned nothing.
_AT_CHANCE = 0.01
# Until then a loss may well be where chance is.
_GRACE_STEPS = 200
# Spread of the embedding: 1 is even. Healthy runs of most objectives stayed
# above 0.3, from their first steps on; MAE's are quiet for longer (its
# `quiet_steps`). See experiments/README.md, "Collapse is caught".
_COLLAPSED_SPREAD = 0.15
_PARTIAL_SPREAD = 0.25
# An objective's own gauge, from 0 to 1.
_COLLAPSED_GAUGE = 0.05
# Effective rank and RankMe; healthy runs stayed above 5. Where few rows or
# dimensions allow no more than 6, half of that.
_PARTIAL_RANK = 3.0


class Collapsed(Error):
  """A run was stopped because its embedding collapsed."""

  def __init__(self, sentence: str, report: dict[str, Any]):
    """Keeps the report that showed it."""
    super().__init__(sentence)
    self.report = report


def grace_steps(
  total_steps: int, *, idle_steps: Sequence[int] = (), least: int = 0
) -> int:
  """Returns the step from which a run may be said to be at chance.

  Args:
    total_steps: of the run, at whose end all but `least` is over.
    idle_steps: of the warm-up, of frozen parameters: a run that hardly trains
      yet may well be at chance.
    least: that the objective asks for, however short the run is.

  Returns:
    The step: no run learns at once, so 200, or the end of a shorter run.
  """
  return max(least, min(total_steps, max([_GRACE_STEPS, *idle_steps])))


def quiet_steps(
  warmup_steps: int, total_steps: int, *, tokens: bool, least: int = 0
) -> int:
  """Returns the step from which on a run is watched.

  Args:
    warmup_steps: of the learning rate.
    total_steps: of the run: at its end something is said.
    tokens: whether text is read: to a transformer of random weights all
      sentences are nearly alike (a spread of 0.04 after 50 steps of a run that
      was whole after 100).
    least: that the objective asks for.
  """
  least = max(least, _GRACE_STEPS if tokens else 0)
  return min(total_steps, max(warmup_steps, least))


def verdict(
  report: dict[str, Any],
  *,
  grace_steps: int,
  quiet_steps: int = 0,
  largest_rank: int,
  known: Container[str],
) -> str:
  """Returns 'ok', or what is wrong: see `VERDICTS`.

  Args:
    report: step, loss, chance_loss, and of `embedding.statistics` spread,
      effective_rank and rankme; collapse_gauge (1 healthy, 0 collapsed) where
      the objective has one of its own.
    grace_steps: before these nothing is said to be at chance; of the function.
    quiet_steps: before their end nothing but 'not finite' is said.
    largest_rank: that the embeddings looked at could have: min(n - 1, d).
    known: the verdicts that this objective can have, of `Objective.causes`.

  Returns:
    The verdict.

  Reference:
    Chen & He 2020 (SimSiam, arXiv 2011.10566), section 4.1, for the spread;
    the thresholds are ours, measured on runs of every objective.
  """
  if not math.isfinite(report['loss']):
    return 'not finite'
  if report['step'] < quiet_steps:
    return 'too early'
  spread = report['embedding_spread']
  gauge = report.get('collapse_gauge', 1.0)
  # Written so that a NaN is an alarm.
  alive = spread >= _COLLAPSED_SPREAD and gauge >= _COLLAPSED_GAUGE
  if 'collapsed' in known and not alive:
    return 'collapsed'
  rank = min(report['effective_rank'], report['rankme'])
  least_rank = min(_PARTIAL_RANK, largest_rank / 2)
  whole = spread >= _PARTIAL_SPREAD and rank >= least_rank
  if 'partial collapse' in known and not whole:
    return 'partial collapse'
  margin = _AT_CHANCE * max(1.0, abs(report['chance_loss']))
  if (
    'at chance' in known
    and report['step'] >= grace_steps
    and report['loss'] >= report['chance_loss'] - margin
  ):
    return 'at chance'
  return 'ok'
