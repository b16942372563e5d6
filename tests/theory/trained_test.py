"""The studies of trained encoders put to a work folder."""

import csv
import functools

import numpy as np
import pytest

from contrastive_jax.evaluation import encoder, linear
from contrastive_jax.training import build
from experiments.theory import changes, invariance, negatives
from tests import tiny
from tests.evaluate_test import work_folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Of a run whose two views are one and the same."""
  c = tiny.config()
  c.augment.update(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
  c.augment.update(flip=0.0, jitter=0.0, grayscale=0.0)
  return work_folder(tmp_path_factory.mktemp('run'), c)


@pytest.fixture(autouse=True)
def nothing_else_is_compiled(folder, monkeypatch):
  """The state of no step is as untrained as the other."""
  monkeypatch.setattr(
    build, 'untrained_state', lambda job: encoder.restore(job, folder)
  )


def test_negatives(folder, tmp_path, monkeypatch):
  found = []
  scores = negatives.scores
  monkeypatch.setattr(
    negatives, 'scores', lambda *args: found.extend(scores(*args)) or found
  )
  text = negatives.study(folder, tmp_path, 'test')
  trained, untrained = found
  np.testing.assert_array_equal(trained, untrained)
  assert trained.shape == (320, 320)  # 5 batches of the 359 images
  # A cosine of 1 over the temperature, if row and column are of one image.
  np.testing.assert_allclose(np.diagonal(trained), 1 / 0.5, rtol=1e-4)
  assert trained.std() > 0.1
  assert '| 256 | 5.55 |' in text and '320 images of digits test' in text
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {'negatives.csv', 'negatives.md', 'negatives.png'}


def test_invariance(folder, tmp_path, monkeypatch):
  turns = 'rotation: 0, 90, 180, 270°'
  monkeypatch.setattr(changes, 'NUISANCES', {turns: changes.NUISANCES[turns]})
  monkeypatch.setattr(invariance, 'TRAIN_IMAGES', 400)
  monkeypatch.setattr(invariance, 'TEST_IMAGES', 200)
  one_head = {'weight_decays': (0.0,)}
  fit_probe = functools.partial(linear.fit_probe, **one_head)
  monkeypatch.setattr(linear, 'fit_probe', fit_probe)
  found = changes.of_run(build.build(tiny.config()).config)
  small, large = 'rotation, 15°', 'rotation, 90°'
  kept = {name: found[name] for name in ('grayscale', small, large)}
  monkeypatch.setattr(changes, 'of_run', lambda config: kept)
  text = invariance.study(folder, tmp_path)
  assert '200 images of digits test' in text
  with (tmp_path / 'invariance.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  mean = {(r['representation'], r['change']): float(r['mean']) for r in rows}
  assert len(mean) == 6  # gray images were gray before
  for name in ('raw pixels', 'untrained encoder', 'trained encoder'):
    assert mean[name, large] < mean[name, small] < 1
  with (tmp_path / 'nuisances.csv').open(newline='') as file:
    accuracies = [float(row['accuracy']) for row in csv.DictReader(file)]
  assert len(accuracies) == 3 and min(accuracies) > 0.5  # chance is 0.25
  assert (tmp_path / 'invariance.png').exists()
