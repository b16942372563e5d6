"""Intervals: what they cover, by simulation and by hand."""

import math

import numpy as np
import scipy.stats

from contrastive_jax.evaluation import intervals, run


def test_a_paired_difference_covers_the_truth():
  """In 95 % of draws; and is narrower than two accuracies would make it."""
  rng = np.random.default_rng(0)
  # Of 300 images both have 80 % right, one alone 10 %, the other alone 4 %.
  cells = rng.multinomial(300, [0.8, 0.1, 0.04, 0.06], size=2000)
  covered, widths = 0, []
  for both, one, other, none in cells:
    right = np.repeat([True, True, False, False], [both, one, other, none])
    theirs = np.repeat([True, False, True, False], [both, one, other, none])
    difference, low, high = intervals.paired(right, theirs)
    assert math.isclose(difference, (one - other) / 300)
    covered += low <= 0.06 <= high
    widths.append(high - low)
  assert 0.935 < covered / 2000 < 0.97
  unpaired = 2 * 1.96 * math.sqrt((0.9 * 0.1 + 0.84 * 0.16) / 300)
  assert np.mean(widths) < 0.8 * unpaired


def test_a_paired_difference_by_hand():
  """Agresti & Min: 40 and 20 of 100 discordant, half added to each cell."""
  right = np.repeat([True, False, True], [40, 20, 40])
  theirs = np.repeat([False, True, True], [40, 20, 40])
  difference, low, high = intervals.paired(right, theirs)
  center = (40.5 - 20.5) / 102
  half = 1.96 * math.sqrt((40.5 + 20.5) - (40.5 - 20.5) ** 2 / 102) / 102
  assert math.isclose(difference, 0.2)
  np.testing.assert_allclose([low, high], [center - half, center + half])


def test_equal_answers_leave_a_width():
  same = np.ones(359, bool)
  difference, low, high = intervals.paired(same, same)
  assert difference == 0
  assert -0.02 < low < 0 < high < 0.02


def test_few_labels_are_unsure_of_subsets_and_of_images():
  """Both variances add up; the images are the same for all subsets."""
  values = [0.70, 0.74, 0.72, 0.69, 0.75]
  scores = [{'value': value, 'examples': 500} for value in values]
  found = run._over_subsets(scores)
  mean = np.mean(values)
  error = math.sqrt(np.var(values, ddof=1) / 5 + mean * (1 - mean) / 500)
  half = scipy.stats.t.ppf(0.975, 4) * error
  np.testing.assert_allclose(
    [found['low'], found['high']], [mean - half, mean + half]
  )
  assert 'over test examples' in found['interval']
