"""Negatives that an accuracy needs, from sweeps whose law is known."""

import csv
import math

import pytest

from experiments.theory import negatives_dimension

DIMS = (4, 16, 64, 256)


def write_sweep(folder, law):
  """Accuracies that reach 90 % at law(dim) negatives, linear in ln K."""
  fields = list(negatives_dimension._FIELDS.values())
  with (folder / 'results.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow([*fields, 'folder'])
    for seed in range(2):
      for dim in DIMS:
        for k in (32, 128, 512):
          accuracy = 0.9 + 0.01 * math.log(k / law(dim))
          writer.writerow([dim, k, seed, accuracy, 'x'])
    writer.writerow([4, 2048, 0, '', 'failed'])
  return folder


def test_interpolation_in_the_logarithm():
  def found(target, accuracies=(0.8, 0.9)):
    return negatives_dimension.negatives_for((16, 64), accuracies, target)

  assert found(0.85) == pytest.approx(32)
  assert found(0.9) == pytest.approx(64)
  assert found(0.8) == 0
  assert found(0.91) == math.inf
  assert found(0.85, (0.8, 0.7)) == math.inf
  # The first time counts.
  k = negatives_dimension.negatives_for((1, 4, 16), (0.8, 0.9, 0.7), 0.85)
  assert k == pytest.approx(2)


@pytest.mark.parametrize(
  'law, better, slope',
  [
    (lambda dim: 20 + 40 * math.log(dim), 'ln(dim)', 40),
    (lambda dim: 40 + dim, 'dim', None),
  ],
)
def test_a_known_law_is_found(tmp_path, law, better, slope):
  text = negatives_dimension.study(
    write_sweep(tmp_path, law), tmp_path / 'out', [0.9, 0.1]
  )
  k = f'{law(4):.0f}'
  assert f'| 90.0 % | {k}, {k} |' in text
  assert f'90.0 %: {better} explains more' in text
  assert f'8 points of 4 dimensions; {better} is ahead' in text or slope is None
  if slope:
    assert f'K changes by +{slope} (+{slope} to +{slope})' in text
  assert '10.0 %: K is known at fewer than 3 dimensions' in text
  assert '8 where the fewest' in text and '≤ 32, ≤ 32' in text
  assert (tmp_path / 'out' / 'negatives_dimension.png').exists()


def test_what_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='no point is done'):
    negatives_dimension.read(tmp_path)
  (tmp_path / 'results.csv').write_text('seed\n0\n')
  with pytest.raises(ValueError, match='of another sweep'):
    negatives_dimension.read(tmp_path)


def test_a_target_that_the_fewest_reach_has_a_picture(tmp_path):
  sweep = write_sweep(tmp_path, lambda dim: 40)
  text = negatives_dimension.study(sweep, tmp_path / 'out', [0.1])
  assert '8 where the fewest' in text
  assert (tmp_path / 'out' / 'negatives_dimension.png').exists()
