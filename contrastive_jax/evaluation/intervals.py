"""How far an accuracy may be off, given how many examples it is of."""

import math
from collections.abc import Iterable

import numpy as np


def wilson(right: int, examples: int) -> tuple[float, float]:
  """Returns the 95 % interval of an accuracy over the examples.

  Wilson's. Resampling (the bootstrap) gives the same but near 0 and 1, where
  it claims to be sure: all right of 359 would be an interval of no width.

  Args:
    right: examples that were classified rightly.
    examples: all of them.

  Returns:
    Lower and upper end, as shares.
  """
  import scipy.stats  # takes half a second, and a listing is to be quick

  low, high = scipy.stats.binomtest(right, examples).proportion_ci(
    method='wilson'
  )
  return float(low), float(high)


def widest(accuracies: Iterable[float | None], examples: int | None) -> float:
  """Returns half of the widest of such intervals, as a share.

  Args:
    accuracies: in [0, 1]; None where nothing was measured.
    examples: that each of them is of.

  Returns:
    Half the width; 0 if there is no accuracy, or of no known examples.
  """
  if not examples:
    return 0.0
  ends = [
    wilson(round(x * examples), examples) for x in accuracies if x is not None
  ]
  return max(((high - low) / 2 for low, high in ends), default=0.0)


def paired(right: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
  """Returns the difference of two accuracies on the same examples.

  What both have right or wrong tells nothing about the difference, so that it
  is known better than either accuracy.

  Args:
    right: bool [n], which examples the one has right.
    other: bool [n], which the other.

  Returns:
    The difference of the shares, one less other, and the lower and upper end of
    its 95 % interval over the examples.

  Reference:
    Agresti & Min 2005, Simple improved confidence intervals for comparing
    matched proportions: Wald's, after half an example more in each of the four
    cells. Wald's own has no width where the two never differ.
  """
  n = len(right) + 2
  gained = float(np.sum(right & ~other)) + 0.5
  lost = float(np.sum(~right & other)) + 0.5
  center = (gained - lost) / n
  half = 1.96 * math.sqrt(((gained + lost) / n - center**2) / n)
  difference = float(np.mean(right) - np.mean(other))
  return difference, max(-1.0, center - half), min(1.0, center + half)
