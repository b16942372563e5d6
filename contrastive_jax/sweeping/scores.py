"""The scores of a sweep, and the runs of one setting."""

import statistics
from typing import Any, NamedTuple

from contrastive_jax.sweeping import Overrides

# What is averaged: its name for a reader, the factor, the format.
SCORES = {
  'linear_accuracy': ('linear, %', 100, '.1f'),
  'knn_accuracy': ('kNN, %', 100, '.1f'),
  'few_label_accuracy': ('linear, few labels, %', 100, '.1f'),
  'feature_rank': ('effective rank', 1, '.1f'),
  'loss': ('loss', 1, '.3f'),
  'chance_loss': ('chance', 1, '.3f'),
  'images_per_second': ('images/s', 1, '.0f'),
}


class Setting(NamedTuple):
  """The runs of one setting; a score's values are in the reader's unit.

  A run has its scores (None where there is none), its verdict, its seed, and as
  `right` what `correctness.of_summary` finds.
  """

  setting: Overrides
  runs: list[dict[str, Any]]

  def scores(self, key: str) -> list[float]:
    """Returns one number for each seed that has this score."""
    factor = SCORES[key][1]
    found = [run[key] for run in self.runs]
    return [factor * value for value in found if value is not None]


def spread(values: list[float], form: str) -> str:
  """Returns '96.1 ± 0.3': mean and deviation of the sample, if there is one."""
  if not values:
    return ''
  text = format(statistics.mean(values), form)
  if len(values) > 1:
    text += f' ± {format(statistics.stdev(values), form)}'
  return text
