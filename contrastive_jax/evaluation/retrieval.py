"""Does each find its counterpart among all, and are alike judged alike?"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.evaluation import features

KS = (1, 5, 10)
_ROWS = 1024  # queries at a time: bounds the similarities that are held


class Spearman(NamedTuple):
  """A rank correlation, and the ends of its 95 % interval."""

  value: float
  low: float
  high: float


def ranks(
  queries: np.ndarray,
  candidates: np.ndarray,
  right: Sequence[Collection[int]],
  left_out: Sequence[Collection[int]] | None = None,
) -> np.ndarray:
  """Returns where the first right candidate stands, by cosine.

  A candidate that is as near as the right one stands before it: features that
  have collapsed find nothing by the order of the rows.

  Args:
    queries: [n, d].
    candidates: [m, d].
    right: of each query the numbers of the candidates that are right, at
      least one; what counts is the nearest of them.
    left_out: of each query numbers that are neither right nor wrong.

  Returns:
    int [n], from 1 on.
  """
  queries, candidates = (features.unit(x) for x in (queries, candidates))
  found = np.empty(len(queries), np.int64)
  for start in range(0, len(queries), _ROWS):
    rows = slice(start, start + _ROWS)
    similarity = queries[rows] @ candidates.T
    is_right = np.zeros(similarity.shape, bool)
    for row, numbers in zip(is_right, right[rows], strict=True):
      row[list(numbers)] = True
    best = np.max(similarity, axis=1, where=is_right, initial=-np.inf)
    for row, numbers in zip(
      similarity, left_out[rows] if left_out else (), strict=False
    ):
      row[list(numbers)] = -np.inf
    # As near as rounding tells.
    before = (similarity >= best[:, None] - 1e-6) & ~is_right
    found[rows] = 1 + before.sum(axis=1)
  return found


def spearman(scores: np.ndarray, other: np.ndarray) -> Spearman:
  """Returns the rank correlation of two scores of the same pairs.

  Args:
    scores: [n], such as cosines of two sentences.
    other: [n], such as what people said of them.

  Raises:
    Error: fewer than four pairs, or scores that are all alike.

  Reference: the interval is Fisher's, with the variance (1 + rho^2 / 2) /
  (n - 3) of Bonett & Wright 2000, Sample size requirements for estimating
  Pearson, Kendall and Spearman correlations.
  """
  import scipy.stats  # takes half a second

  n = len(scores)
  if n < 4:
    raise Error(f'a correlation of {n} pairs: at least 4 are needed')
  if np.ptp(scores) == 0 or np.ptp(other) == 0:
    raise Error('scores that are all alike correlate with nothing')
  value = float(scipy.stats.spearmanr(scores, other).statistic)
  z = math.atanh(np.clip(value, -0.999999, 0.999999))
  half = 1.96 * math.sqrt((1 + value**2 / 2) / (n - 3))
  return Spearman(value, math.tanh(z - half), math.tanh(z + half))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns the cosine of each row of a with the same row of b."""
  return np.sum(features.unit(a) * features.unit(b), axis=1)
