import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.losses._barlow_twins import (
  barlow_twins,
  barlow_twins_and_terms,
)
from tests.losses import replicas


def oracle(z_a, z_b, weight):
  """The equation, in float64, one pair of dimensions at a time."""
  u_a, u_b = (
    (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
    for z in (z_a.astype(np.float64), z_b.astype(np.float64))
  )
  n, d = u_a.shape
  loss = 0.0
  for i in range(d):
    for j in range(d):
      c = sum(u_a[k, i] * u_b[k, j] for k in range(n)) / n
      loss += (c - 1) ** 2 if i == j else weight * c**2
  return loss


def embeddings(n, d):
  """Two views of correlated dimensions, of unlike scale and offset."""
  rng = np.random.default_rng(0)
  common = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
  return tuple(
    (common + rng.normal(size=(n, d)) * (1 + view) + 3 * view).astype(
      np.float32
    )
    for view in range(2)
  )


@pytest.mark.parametrize('weight', [0.0051, 0.5])
def test_equals_the_equation(weight):
  z_a, z_b = embeddings(12, 7)
  loss, terms = barlow_twins_and_terms(z_a, z_b, redundancy_weight=weight)
  np.testing.assert_allclose(loss, oracle(z_a, z_b, weight), rtol=1e-5)
  np.testing.assert_allclose(
    terms['invariance_term'], oracle(z_a, z_b, 0.0), rtol=1e-5
  )
  np.testing.assert_allclose(
    terms['redundancy_term'],
    oracle(z_a, z_b, 1.0) - oracle(z_a, z_b, 0.0),
    rtol=1e-5,
  )


def test_gradient_equals_finite_differences_of_the_equation():
  z_a, z_b = embeddings(5, 3)
  gradient = jax.jit(jax.grad(barlow_twins))(z_a, z_b, redundancy_weight=0.3)
  for index in np.ndindex(*z_a.shape):
    step = np.zeros(z_a.shape)
    step[index] = 1e-5
    slope = (oracle(z_a + step, z_b, 0.3) - oracle(z_a - step, z_b, 0.3)) / 2e-5
    np.testing.assert_allclose(gradient[index], slope, rtol=1e-4, atol=1e-6)


def test_closed_forms():
  # Sylvester's matrix: columns of mean 0 (but the first), all orthogonal.
  h = np.ones((1, 1), np.float32)
  for _ in range(4):
    h = np.block([[h, h], [h, -h]])
  z = h[:, 1:9]
  np.testing.assert_allclose(barlow_twins(z, 5 * z + 2), 0, atol=1e-6)
  np.testing.assert_allclose(barlow_twins(np.ones_like(z), z), 8, atol=1e-6)
  # One dimension copied into all 8: everything correlates fully.
  alike = np.repeat(z[:, :1], 8, axis=1)
  np.testing.assert_allclose(barlow_twins(alike, alike), 56 * 0.0051, rtol=1e-3)


def test_independent_views_are_at_the_documented_chance():
  n, d = 512, 64
  rng = np.random.default_rng(0)
  z_a, z_b = rng.normal(size=(2, n, d)).astype(np.float32)
  expected = d * (1 + 1 / n) + 0.0051 * d * (d - 1) / n
  np.testing.assert_allclose(barlow_twins(z_a, z_b), expected, rtol=0.05)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
def test_replicas_together_equal_one_device(mapping):
  # Rows in order of size: a device's own mean is far from the global one.
  rows = tuple(np.sort(z, axis=0) for z in embeddings(32, 6))

  def loss(rows, axis_name=None):
    return barlow_twins(*rows, redundancy_weight=0.3, axis_name=axis_name)

  ours = replicas.value_and_grad(loss, rows, mapping=mapping)
  whole = jax.jit(jax.value_and_grad(loss))(rows)
  replicas.assert_same(ours, whole, rtol=1e-5)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('factor', [0, 1e4, 1e-20])
def test_finite_in_adverse_batches(factor, dtype):
  z_a, z_b = (jnp.asarray(factor * z, dtype) for z in embeddings(6, 4))
  duplicates = jnp.tile(z_a[:1], (6, 1))
  value_and_grad = jax.jit(jax.value_and_grad(barlow_twins, argnums=(0, 1)))
  for other in (z_b, z_a, duplicates, jnp.ones_like(z_a)):
    loss, gradient = value_and_grad(z_a, other)
    assert loss.dtype == jnp.float32
    assert jnp.isfinite(loss)
    assert all(jnp.isfinite(g).all() for g in gradient)
