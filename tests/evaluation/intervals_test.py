"""Intervals: what they cover, by simulation and by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from contrastive_jax.evaluation import correctness, intervals, run


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


def _draw(rng, seeds, of_seed):
  """Answers of two settings on the same images, of which the first is better.

  Returns:
    bool [seeds, 300] twice, and the true difference.
  """
  image = rng.normal(size=300)
  means = 1.0, 0.7
  right = [
    mean
    + image
    + of_seed * rng.normal(size=(seeds, 1))
    + 0.5 * rng.normal(size=(seeds, 300))
    > 0
    for mean in means
  ]
  scale = math.sqrt(1 + of_seed**2 + 0.25)
  one, other = (scipy.stats.norm.cdf(mean / scale) for mean in means)
  return *right, one - other


@pytest.mark.parametrize('of_seed', [0.0, 0.15])
@pytest.mark.parametrize('same_seeds', [False, True])
def test_a_difference_of_settings_covers_images_and_seeds(of_seed, same_seeds):
  rng = np.random.default_rng(0)
  covered = 0
  for _ in range(400):
    right, other, truth = _draw(rng, 4, of_seed)
    _, low, high = intervals.between(right, other, same_seeds=same_seeds)
    covered += low <= truth <= high
  assert 0.93 < covered / 400 <= 1


def test_one_seed_each_is_a_paired_difference():
  right, other, _ = _draw(np.random.default_rng(0), 2, 0.0)
  np.testing.assert_allclose(
    intervals.between(right[:1], other[:1]),
    intervals.paired(right[0], other[0]),
  )
  # Against a single seed there is no spread: of the images alone, by z.
  _, low, high = intervals.between(right, other[:1])
  d = np.mean(right, axis=0) - other[0]
  variance = ((np.sum(d**2) + 1) / 302 - (np.sum(d) / 302) ** 2) / 302
  np.testing.assert_allclose(high - low, 2 * 1.96 * math.sqrt(variance))


def test_a_difference_of_settings_by_hand():
  """Four images, two seeds each: d is 1/2, 1/2, 0, 0."""
  right = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
  other = np.array([[1, 0, 0, 0], [0, 1, 1, 0]], bool)
  center, images = 1 / 6, ((1 / 2 + 1) / 6 - 1 / 36) / 6
  # 3/4 and 2/4 of the one, 1/4 and 2/4 of the other, variance 1/32 each.
  for same, parts in ((False, [1 / 64, 1 / 64]), (True, [1 / 8 / 2])):
    variance = images + sum(parts)
    freedom = variance**2 / (images**2 / 3 + sum(x**2 for x in parts))
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    value, low, high = intervals.between(right, other, same_seeds=same)
    assert value == 1 / 4
    ends = [max(-1, center - half), min(1, center + half)]
    np.testing.assert_allclose([low, high], ends)


def test_answers_are_stored_and_given_back():
  rng = np.random.default_rng(0)
  for n in (1, 7, 8, 359):
    right = rng.random(n) < 0.7
    text = correctness.pack(right)
    np.testing.assert_array_equal(correctness.unpack(text, n), right)
    for damaged in (text[:-4], text + 'AAAA', '#' + text[1:], 'é', 3, None, []):
      assert correctness.unpack(damaged, n) is None
    for examples in (None, 'x', 0, -1, True, n + 8, float(n)):
      assert correctness.unpack(text, examples) in (None, n == examples)


@pytest.mark.parametrize('right', [None, 3, [], {'trained encoder': 'x'}])
def test_a_summary_without_answers_is_not_comparable(right):
  assert correctness.of_summary({}) == {}
  assert correctness.of_summary({'right': right, 'test_sha256': 'a'}) == {}
  stored = {'right': {'trained encoder': {'linear': 'gA=='}}, 'test_images': 1}
  assert correctness.of_summary(stored) == {}
  assert correctness.of_summary({**stored, 'test_sha256': 3}) == {}
  assert correctness.of_summary({**stored, 'test_sha256': 'a'}).keys() == {
    'linear_accuracy'
  }


def test_the_best_is_compared_on_its_own_images():
  """Of four settings one has other images, and one has no answers."""
  same = [np.arange(20) < most for most in (15, 18)]
  settings = [
    {0: correctness.Right('a', same[0])},
    {0: correctness.Right('a', same[1])},
    {0: correctness.Right('b', same[0])},
    {},
  ]
  found = correctness.less_best(settings)
  assert found.best == 1
  np.testing.assert_allclose(
    found.differences[0], intervals.paired(same[0], same[1])
  )
  assert found.differences[1:] == [None] * 3
  assert correctness.less_best([{}]) == (None, [None])


def test_seeds_are_paired_in_whatever_order_they_come():
  right, other, _ = _draw(np.random.default_rng(0), 3, 0.2)
  runs = [
    {s: correctness.Right('a', x[s]) for s in order}
    for x, order in ((right, (0, 1, 2)), (other, (2, 0, 1)))
  ]
  found = correctness.less_best(runs)
  assert found.best == 0
  np.testing.assert_allclose(
    found.differences[1], intervals.between(other, right, same_seeds=True)
  )


def test_a_mean_over_subsets_has_the_answers_of_each():
  right = np.random.default_rng(0).random((2, 9)) < 0.5
  key = {'protocol': 'linear_few', 'test_sha256': 'a', 'examples': 9}
  subsets = [
    {**key, 'headline': False, 'right': correctness.pack(x), 'value': x.mean()}
    for x in right
  ]
  other = {**subsets[0], 'protocol': 'knn'}
  mean = {**run._over_subsets(subsets), 'headline': True}
  assert 'right' not in mean
  found = correctness.of_result(mean, [mean, *subsets, other])
  np.testing.assert_array_equal([r.right for r in found.values()], right)
  assert correctness.of_result({**mean, 'right': 'x'}, subsets) == {}
