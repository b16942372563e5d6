import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from contrastive_jax.losses._lejepa import sigreg
from contrastive_jax.losses._visreg import collapsed, visreg, visreg_and_terms
from tests.losses import replicas
from tests.losses.lejepa_test import DIRECTIONS, embeddings

HOW = {
  'weight': 0.3,
  'scale_weight': 2.0,
  'shape_weight': 3.0,
  'center_weight': 0.5,
}


def oracle_terms(z, directions):
  z = z.astype(np.float64)
  n = len(z)
  mean, std = z.mean(axis=0), z.std(axis=0)
  quantiles = scipy.stats.norm.ppf(np.arange(1, n + 1) / (n + 1))
  shape = [
    np.mean((np.sort((z - mean) / (std + 1e-4) @ a) - quantiles) ** 2)
    for a in directions
  ]
  return np.mean((1 - std) ** 2), np.mean(shape), np.mean(mean**2)


def oracle(views, directions):
  center = (views[0].astype(np.float64) + views[1]) / 2
  invariance = np.mean([(z - center) ** 2 for z in views])
  scale, shape, off = np.mean(
    [oracle_terms(z, directions) for z in views], axis=0
  )
  return 0.7 * invariance + 0.3 * (2 * scale + 3 * shape + 0.5 * off)


def test_equals_the_definition():
  views = embeddings()
  loss, terms = visreg_and_terms(views, DIRECTIONS, **HOW)
  np.testing.assert_allclose(loss, oracle(views, DIRECTIONS), rtol=1e-5)
  expected = np.mean([oracle_terms(z, DIRECTIONS) for z in views], axis=0)
  for name, value in zip(('scale', 'shape', 'center'), expected, strict=True):
    np.testing.assert_allclose(terms[f'{name}_term'], value, rtol=1e-4)


def test_gradient_of_sorting_is_that_of_the_sorted():
  """Finite differences, the standard deviation of the shape held fixed."""
  views = embeddings(2, 5, 6)
  gradient = jax.grad(lambda v: visreg(v, DIRECTIONS, **HOW))(views)
  stds = [z.astype(np.float64).std(axis=0) for z in views]
  quantiles = scipy.stats.norm.ppf(np.arange(1, 6) / 6)

  def value(moved):
    center = (moved[0] + moved[1]) / 2
    total = 0.7 * np.mean([(z - center) ** 2 for z in moved])
    for z, std in zip(moved, stds, strict=True):
      x = (z - z.mean(axis=0)) / (std + 1e-4) @ DIRECTIONS.T
      shape = np.mean((np.sort(x, axis=0) - quantiles[:, None]) ** 2)
      scale = np.mean((1 - z.std(axis=0)) ** 2)
      off = np.mean(z.mean(axis=0) ** 2)
      total += 0.3 * (2 * scale + 3 * shape + 0.5 * off) / 2
    return total

  for v in range(2):
    for index in np.ndindex(5, 6):
      ends = []
      for sign in (1, -1):
        moved = [z.astype(np.float64) for z in views]
        moved[v][index] += sign * 1e-6
        ends.append(value(moved))
      slope = (ends[0] - ends[1]) / 2e-6
      np.testing.assert_allclose(
        gradient[v][index], slope, rtol=1e-3, atol=1e-5
      )


@pytest.mark.parametrize(
  'n, expected', [(64, 0.891808), (256, 0.963137), (1024, 0.988272)]
)
def test_closed_forms_of_a_collapse(n, expected):
  np.testing.assert_allclose(collapsed(n) - 1, expected, rtol=1e-4)
  z = jnp.full((n, 3), 2.0)
  loss, terms = visreg_and_terms((z, z), jnp.eye(3), weight=1.0)
  np.testing.assert_allclose(loss, collapsed(n) + 4, rtol=1e-5)
  assert terms['scale_term'] == 1 and terms['mean_std'] == 0
  gradient = jax.grad(lambda z: visreg((z, z), jnp.eye(3)))(z)
  assert np.isfinite(gradient).all()


def test_a_gaussian_sample_is_nearly_at_the_bottom():
  z = jax.random.normal(jax.random.key(0), (256, 16))
  _, terms = visreg_and_terms((z, z), jnp.eye(16))
  assert 0.001 < terms['scale_term'] < 0.003
  assert 0.005 < terms['shape_term'] < 0.011
  np.testing.assert_allclose(terms['center_term'], 1 / 256, rtol=0.4)


def test_near_a_point_its_gradient_stays_where_sigregs_fades():
  z = 1e-3 * jax.random.normal(jax.random.key(0), (256, 16))
  ours = jax.grad(lambda z: visreg((z, z), jnp.eye(16)))(z)
  theirs = jax.grad(lambda z: sigreg(z, jnp.eye(16)))(z)
  # Per example, SIGReg's is N times as large by its definition.
  assert jnp.linalg.norm(ours) > 10 * jnp.linalg.norm(theirs) / 256


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
def test_replicas_together_equal_one_device(mapping):
  rows = tuple(np.sort(z, axis=0) for z in embeddings(3, 32, 6))

  def loss(rows, axis_name=None):
    return visreg(rows, DIRECTIONS, **HOW, axis_name=axis_name)

  ours = replicas.value_and_grad(loss, rows, mapping=mapping)
  whole = jax.jit(jax.value_and_grad(loss))(rows)
  replicas.assert_same(ours, whole, rtol=1e-5)


def test_of_each_replica_by_itself_it_is_the_mean_of_theirs():
  """Without an axis: not the loss of the whole batch, and nothing is sent."""
  rows = tuple(np.sort(z, axis=0) for z in embeddings(3, 32, 6))

  def loss(rows, axis_name=None):
    del axis_name
    return visreg(rows, DIRECTIONS, **HOW)

  def mean_of_blocks(rows):
    blocks = [z.reshape(8, 4, 6) for z in rows]
    return jnp.mean(jax.vmap(loss)(tuple(blocks)))

  value, gradient = replicas.value_and_grad(loss, rows)
  expected = jax.value_and_grad(mean_of_blocks)(rows)
  replicas.assert_same((value, gradient), expected, rtol=1e-5)
  assert abs(value - loss(rows)) > 0.01


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('factor', [0, 1e4, 1e-20])
def test_finite_in_adverse_batches(factor, dtype):
  views = tuple(jnp.asarray(factor * z, dtype) for z in embeddings(2, 6, 6))
  value_and_grad = jax.jit(jax.value_and_grad(visreg))
  for batch in (views, views[:1] * 2, tuple(jnp.ones_like(z) for z in views)):
    loss, gradient = value_and_grad(batch, DIRECTIONS)
    assert loss.dtype == jnp.float32 and jnp.isfinite(loss)
    assert all(jnp.isfinite(g).all() for g in gradient)
