"""The path's heads are scikit-learn's, on one device and on eight."""

import jax
import numpy as np
import pytest
import sklearn.linear_model
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.evaluation import logistic

ROWS, DIM, CLASSES = 320, 12, 4


@pytest.fixture(scope='module')
def data():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, CLASSES, ROWS)
  means = rng.normal(size=(CLASSES, DIM))
  # One direction is a thousand times as long as another.
  scale = np.geomspace(0.03, 30, DIM)
  x = (0.8 * means[labels] + rng.normal(size=(ROWS, DIM))) * scale
  return (x - x.mean(0)).astype(np.float32), labels.astype(np.int32)


def _fit(x, y, weights, decays, monkeypatch):
  monkeypatch.setattr(logistic, '_TOLERANCE', 1e-4)
  fit = jax.jit(logistic.fit_path.__wrapped__, static_argnames=('num_classes',))
  return fit(x, y, weights, np.asarray(decays, np.float32), num_classes=CLASSES)


def test_heads_are_those_of_scikit_learn(data, monkeypatch):
  x, y = data
  kept = np.ones((ROWS, 2), np.float32)
  kept[:80, 1] = 0  # a split of its own
  decays = (1.0, 0.1, 0.003)
  weights, bias = _fit(x, y, kept / kept.sum(0), decays, monkeypatch)
  assert weights.shape == (3, 2, CLASSES, DIM)
  for split, rows in enumerate((slice(None), slice(80, None))):
    count = len(y[rows])
    for number, decay in enumerate(decays):
      model = sklearn.linear_model.LogisticRegression(
        C=1 / (decay * count), tol=1e-8, max_iter=10_000
      ).fit(x[rows].astype(np.float64), y[rows])
      ours = np.asarray(weights)[number, split].T
      centered = np.asarray(bias)[number, split]
      np.testing.assert_allclose(
        jax.nn.softmax(x @ ours + centered),
        model.predict_proba(x),
        atol=3e-3,
      )


def test_eight_devices_are_one(data, monkeypatch):
  x, y = data
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  by_rows = NamedSharding(mesh, P('data'))
  uniform = np.full((ROWS, 1), 1 / ROWS, np.float32)
  one = _fit(x, y, uniform, (0.1, 0.01), monkeypatch)
  spread = jax.device_put((x, y, uniform), by_rows)
  eight = _fit(*spread, (0.1, 0.01), monkeypatch)

  def probabilities(heads):
    weights, bias = (np.asarray(array)[:, 0] for array in heads)
    return jax.nn.softmax(x @ weights.swapaxes(1, 2) + bias[:, None])

  np.testing.assert_allclose(
    probabilities(eight), probabilities(one), atol=3e-3
  )


def test_separable_data_without_decay_end(monkeypatch):
  x = np.repeat(np.eye(CLASSES, dtype=np.float32), 5, axis=0) - 1 / CLASSES
  y = np.repeat(np.arange(CLASSES), 5).astype(np.int32)
  uniform = np.full((20, 1), 1 / 20, np.float32)
  weights, bias = _fit(x, y, uniform, (0.0,), monkeypatch)
  assert np.isfinite(weights).all() and np.isfinite(bias).all()
  accuracy, loss = logistic.score(weights, bias, x, y, uniform > 0)
  assert accuracy[0] == 1 and loss[0] < 0.1
