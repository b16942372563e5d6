"""How sure an accuracy is for want of examples."""

import scipy.stats


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
  low, high = scipy.stats.binomtest(right, examples).proportion_ci(
    method='wilson'
  )
  return float(low), float(high)


def half_width(accuracy: float, examples: int) -> float:
  """Returns half of that interval.

  Args:
    accuracy: in [0, 1].
    examples: that it is of.

  Returns:
    Half its width, as a share.
  """
  low, high = wilson(round(accuracy * examples), examples)
  return (high - low) / 2
