import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.losses._vicreg import vicreg, vicreg_and_terms
from tests.losses import replicas

WEIGHTS = {
  'similarity_weight': 3.0,
  'variance_weight': 5.0,
  'covariance_weight': 2.0,
}


def oracle_terms(z_a, z_b):
  """The paper's equations, in float64, one pair of dimensions at a time."""
  views = [z.astype(np.float64) for z in (z_a, z_b)]
  n, d = z_a.shape
  variance = covariance = 0.0
  for z in views:
    mean = [sum(z[:, j]) / n for j in range(d)]
    for i in range(d):
      for j in range(d):
        cov = sum(
          (z[k, i] - mean[i]) * (z[k, j] - mean[j]) for k in range(n)
        ) / (n - 1)
        if i == j:
          variance += max(0, 1 - np.sqrt(cov + 1e-4)) / d
        else:
          covariance += cov**2 / d
  return np.mean((views[0] - views[1]) ** 2), variance, covariance


def oracle(z_a, z_b, form='code'):
  similarity, variance, covariance = oracle_terms(z_a, z_b)
  half = 0.5 if form == 'code' else 1.0
  return 3 * similarity + 5 * half * variance + 2 * covariance


def embeddings(n, d):
  """Dimensions of deviations below and above 1, correlated."""
  rng = np.random.default_rng(0)
  common = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / d
  scale = np.linspace(0.3, 2, d)
  return tuple(
    ((common + 0.3 * rng.normal(size=(n, d))) * scale + 4).astype(np.float32)
    for _ in range(2)
  )


@pytest.mark.parametrize('form', ['code', 'paper'])
def test_equals_the_equations(form):
  z_a, z_b = embeddings(12, 7)
  loss, terms = vicreg_and_terms(z_a, z_b, variance_form=form, **WEIGHTS)
  np.testing.assert_allclose(loss, oracle(z_a, z_b, form), rtol=1e-5)
  similarity, variance, covariance = oracle_terms(z_a, z_b)
  np.testing.assert_allclose(terms['similarity_term'], similarity, rtol=1e-5)
  np.testing.assert_allclose(terms['covariance_term'], covariance, rtol=1e-5)
  half = 0.5 if form == 'code' else 1.0
  np.testing.assert_allclose(terms['variance_term'], half * variance, rtol=1e-5)
  stds = [
    np.sqrt(z.astype(np.float64).var(axis=0, ddof=1) + 1e-4) for z in (z_a, z_b)
  ]
  np.testing.assert_allclose(terms['mean_std'], np.mean(stds), rtol=1e-5)


def test_gradient_equals_finite_differences_of_the_equations():
  z_a, z_b = embeddings(5, 3)
  gradient = jax.jit(jax.grad(vicreg))(z_a, z_b, **WEIGHTS)
  for index in np.ndindex(*z_a.shape):
    step = np.zeros(z_a.shape)
    step[index] = 1e-5
    slope = (oracle(z_a + step, z_b) - oracle(z_a - step, z_b)) / 2e-5
    np.testing.assert_allclose(gradient[index], slope, rtol=1e-4, atol=1e-5)


def test_closed_forms():
  constant = np.full((8, 4), 7, np.float32)
  np.testing.assert_allclose(vicreg(constant, constant), 24.75, rtol=1e-5)
  np.testing.assert_allclose(
    vicreg(constant, constant, variance_form='paper'), 49.5, rtol=1e-5
  )
  # Dimensions of deviation 2 that do not correlate: nothing to improve.
  h = np.array([[1, 1], [1, -1]])
  z = 2 * np.kron(np.kron(h, h), h)[:, 1:5].astype(np.float32)
  np.testing.assert_allclose(vicreg(z, z), 0, atol=1e-6)
  # Moved by 0.1: only the similarity term sees it.
  np.testing.assert_allclose(vicreg(z, z + 0.1), 25 * 0.01, rtol=1e-4)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
@pytest.mark.parametrize('similarity_weight', [3.0, 0.0])
def test_replicas_together_equal_one_device(mapping, similarity_weight):
  # Rows in order of size: a device's own mean is far from the global one.
  rows = tuple(np.sort(z, axis=0) for z in embeddings(32, 6))
  weights = {**WEIGHTS, 'similarity_weight': similarity_weight}

  def loss(rows, axis_name=None):
    return vicreg(*rows, **weights, axis_name=axis_name)

  ours = replicas.value_and_grad(loss, rows, mapping=mapping)
  whole = jax.jit(jax.value_and_grad(loss))(rows)
  replicas.assert_same(ours, whole, rtol=1e-5)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('factor', [0, 1e4, 1e-20])
def test_finite_in_adverse_batches(factor, dtype):
  z_a, z_b = (jnp.asarray(factor * z, dtype) for z in embeddings(6, 4))
  duplicates = jnp.tile(z_a[:1], (6, 1))
  value_and_grad = jax.jit(jax.value_and_grad(vicreg, argnums=(0, 1)))
  for other in (z_b, z_a, duplicates, jnp.ones_like(z_a)):
    loss, gradient = value_and_grad(z_a, other)
    assert loss.dtype == jnp.float32
    assert jnp.isfinite(loss)
    assert all(jnp.isfinite(g).all() for g in gradient)


def test_what_it_cannot_do_is_said():
  z = np.ones((1, 4), np.float32)
  with pytest.raises(ValueError, match='a batch of 1 image'):
    vicreg(z, z)
  with pytest.raises(ValueError, match="not 'halved'"):
    vicreg(z, z, variance_form='halved')
