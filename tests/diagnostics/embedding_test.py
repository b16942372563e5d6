import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.diagnostics import embedding
from contrastive_jax.training import step


def sphere(n, d, seed=0):
  z = np.random.default_rng(seed).normal(size=(n, d))
  return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_an_even_spread():
  found = embedding.statistics([3 * sphere(2000, 8), sphere(2000, 8, seed=1)])
  assert found['embedding_spread'] == pytest.approx(1, abs=0.01)
  assert found['effective_rank'] == pytest.approx(8, abs=0.05)
  assert found['mean_cosine'] == pytest.approx(0, abs=0.01)
  # methods: 2,000 points on the 7-sphere.
  assert found['uniformity'] == pytest.approx(-3.08, abs=0.02)
  assert found['alignment'] == pytest.approx(2, abs=0.1)


def test_one_point():
  found = embedding.statistics([np.ones((10, 4)), np.ones((10, 4))])
  assert found['embedding_spread'] == pytest.approx(0, abs=1e-7)
  assert found['rankme'] == pytest.approx(1, abs=1e-4)
  assert found['mean_cosine'] == pytest.approx(1)
  assert found['uniformity'] == pytest.approx(0, abs=1e-7)
  assert found['alignment'] == 0


def test_two_clusters_have_rank_one_and_a_spread():
  z = np.repeat([[1.0, 0, 0, 0], [0, 1.0, 0, 0]], 50, axis=0)
  found = embedding.statistics([z])
  assert found['effective_rank'] == pytest.approx(1)
  assert found['embedding_spread'] == pytest.approx(0.5)
  assert 'alignment' not in found


@pytest.mark.parametrize('shape', [(40, 300), (300, 40)])
def test_against_singular_values_and_loops(shape):
  z = np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1)
  found = embedding.statistics([z])
  u = z / np.linalg.norm(z, axis=1, keepdims=True)

  def rank(x, epsilon):
    singular = np.linalg.svd(x, compute_uv=False)
    p = singular / singular.sum() + epsilon
    p = p[p > 0]
    return np.exp(-(p * np.log(p)).sum())

  assert found['rankme'] == pytest.approx(rank(z, 1e-7), rel=1e-4)
  assert found['effective_rank'] == pytest.approx(
    rank(u - u.mean(0), 0), rel=1e-4
  )
  pairs = [(i, j) for i in range(len(u)) for j in range(i)]
  squared = np.array([np.sum((u[i] - u[j]) ** 2) for i, j in pairs])
  assert found['uniformity'] == pytest.approx(
    np.log(np.mean(np.exp(-2 * squared)))
  )
  assert found['mean_cosine'] == pytest.approx(
    np.mean([u[i] @ u[j] for i, j in pairs])
  )


def test_not_finite():
  found = embedding.statistics([np.full((4, 3), np.nan)])
  assert all(np.isnan(value) for value in found.values())


@pytest.mark.parametrize('stacked', [False, True])
def test_the_first_rows_of_all_devices(stacked):
  mesh = step.make_mesh()
  rows = np.arange(800.0, dtype=np.float32).reshape(400, 2)
  x = rows.reshape(8, 50, 2) if stacked else rows
  x = jax.device_put(x, NamedSharding(mesh, P(step.AXIS)))
  (found,) = embedding.fetch((x,), mesh)
  np.testing.assert_array_equal(found, rows[: embedding.ROWS])
