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


def between(
  right: np.ndarray, other: np.ndarray, *, same_seeds: bool = False
) -> tuple[float, float, float]:
  """Returns the difference of two settings' mean accuracies on the same images.

  With d[i] the mean of image i over the seeds of the one, less that of the
  other, a[s] the accuracy of a seed of the one and b[s] of the other, and half
  an example more in each of the four cells, as for `paired` (N = n + 2),

    center = sum d / N
    images = ((sum d^2 + 1) / N - center^2) / N
    seeds  = var a / S + var b / S', or var (a - b) / S for the same seeds
    half   = t sqrt(images + seeds)

  where t is Student's at (images + seeds)^2 / (images^2 / (n - 1) + each part
  of seeds^2 / (its number of seeds - 1)) degrees of freedom (Satterthwaite's).
  What one seed has by chance on one image is in both sums, so that the interval
  is rather too wide: in simulations it covers 95 to 99 %. Of two or three seeds
  whose spread is far above that of the images, it covers 92 %, and of two pairs
  87 %: so few do not tell their own spread.

  Args:
    right: bool [S, n], which images the runs of the one setting have right.
    other: bool [S', n], which those of the other.
    same_seeds: row s of both is of the same seed, S = S'.

  Returns:
    The difference of the shares, one less other, and the lower and upper end of
    its 95 % interval over the images and the seeds. Where either has one seed
    alone it is over the images alone; of one seed each it is that of `paired`.

  Reference:
    Satterthwaite 1946, An approximate distribution of estimates of variance
    components.
  """
  n = right.shape[1]
  difference = np.mean(right, axis=0) - np.mean(other, axis=0)
  center = float(np.sum(difference)) / (n + 2)
  square = (float(np.sum(difference**2)) + 1) / (n + 2)
  of_images = (square - center**2) / (n + 2)
  scores = [np.mean(runs, axis=1) for runs in (right, other)]
  value = float(np.mean(scores[0]) - np.mean(scores[1]))
  if same_seeds:
    scores = [scores[0] - scores[1]]
  variance, quantile = of_images, 1.96
  if min(len(right), len(other)) > 1:
    import scipy.stats  # takes half a second

    of_seeds = [float(np.var(x, ddof=1)) / len(x) for x in scores]
    variance += sum(of_seeds)
    freedom = variance**2 / (
      of_images**2 / max(1, n - 1)
      + sum(v**2 / (len(x) - 1) for v, x in zip(of_seeds, scores, strict=True))
    )
    quantile = float(scipy.stats.t.ppf(0.975, freedom))
  half = quantile * math.sqrt(variance)
  return value, max(-1.0, center - half), min(1.0, center + half)
