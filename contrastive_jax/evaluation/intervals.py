"""How far an accuracy may be off, given how many examples it is of."""

from collections.abc import Iterable


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
