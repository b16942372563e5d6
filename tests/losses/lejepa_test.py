import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from contrastive_jax.losses import _lejepa
from contrastive_jax.losses._lejepa import lejepa, lejepa_and_terms, sigreg
from tests.losses import replicas

DIRECTIONS = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]


def oracle_sigreg(z, directions):
  """The definition, one direction and one knot at a time, in float64."""
  z, total = z.astype(np.float64), 0.0
  for a in directions:
    x = z @ a
    for j in range(17):
      t = 3 * j / 16
      weight = (3 / 16) * (1 if j in (0, 16) else 2) * np.exp(-(t**2) / 2)
      cos, sin = np.mean(np.cos(t * x)), np.mean(np.sin(t * x))
      total += weight * ((cos - np.exp(-(t**2) / 2)) ** 2 + sin**2)
  return len(z) * total / len(directions)


def oracle(views, directions, weight=0.3, flattened=False):
  center = (views[0].astype(np.float64) + views[1]) / 2
  invariance = np.mean([(z - center) ** 2 for z in views])
  samples = [np.concatenate(views)] if flattened else views
  slices = np.mean([oracle_sigreg(z, directions) for z in samples])
  return (1 - weight) * invariance + weight * slices


def embeddings(views=3, n=10, d=6):
  rng = np.random.default_rng(0)
  common = rng.normal(size=(n, d))
  return tuple(
    (0.8 * common + 0.4 * rng.normal(size=(n, d)) + 0.2).astype(np.float32)
    for _ in range(views)
  )


@pytest.mark.parametrize('flattened', [False, True])
def test_equals_the_definition(flattened):
  views = embeddings()
  how = {'weight': 0.3, 'flattened': flattened}
  loss, terms = lejepa_and_terms(views, DIRECTIONS, **how)
  expected = oracle(views, DIRECTIONS, **how)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  stds = [z.astype(np.float64).std(axis=0) for z in views]
  np.testing.assert_allclose(terms['mean_std'], np.mean(stds), rtol=1e-5)
  rebuilt = 0.7 * terms['invariance_term']
  rebuilt += 0.3 * _lejepa.GAUSSIAN * terms['sigreg']
  np.testing.assert_allclose(rebuilt, expected, rtol=1e-5)


def test_all_views_as_one_sample_is_not_the_mean_of_views():
  views = embeddings()
  values = [lejepa(views, DIRECTIONS, flattened=x) for x in (False, True)]
  assert abs(values[0] - values[1]) > 0.01 * values[0]


def test_gradient_equals_finite_differences():
  views = embeddings(2, 4, 6)
  gradient = jax.jit(jax.grad(lambda v: lejepa(v, DIRECTIONS, weight=0.3)))(
    views
  )
  for v in range(2):
    for index in np.ndindex(4, 6):
      step = np.zeros((4, 6))
      step[index] = 1e-5
      ends = []
      for sign in (1, -1):
        moved = [z.astype(np.float64) for z in views]
        moved[v] = moved[v] + sign * step
        ends.append(oracle(moved, DIRECTIONS))
      slope = (ends[0] - ends[1]) / 2e-5
      np.testing.assert_allclose(
        gradient[v][index], slope, rtol=2e-4, atol=1e-5
      )


def test_closed_forms():
  line = jnp.ones((1, 1))
  zeros = jnp.zeros((256, 1))
  np.testing.assert_allclose(sigreg(zeros, line) / 256, 0.402048, rtol=1e-5)
  assert np.all(jax.grad(sigreg)(zeros, line) == 0)  # a saddle
  for value, expected in ((0.5, 0.616737), (1, 1.186006), (3, 3.573160)):
    found = sigreg(zeros + value, line) / 256
    np.testing.assert_allclose(found, expected, rtol=1e-5)
  signs = jnp.where(jnp.arange(256) % 2, 1.0, -1.0)[:, None]
  np.testing.assert_allclose(sigreg(signs, line) / 256, 0.102830, rtol=1e-4)
  golden = jnp.array([[0.0], [1.0], [-1.0], [2.0]])
  np.testing.assert_allclose(sigreg(golden, line), 0.55819, rtol=1e-5)
  np.testing.assert_allclose(_lejepa._WEIGHTS.sum(), 2.499666, rtol=1e-6)


def test_a_gaussian_sample_has_the_same_value_at_any_size():
  rng = np.random.default_rng(0)
  for n in (16, 256):
    values = [
      float(jax.jit(sigreg)(z, jnp.ones((1, 1))))
      for z in rng.normal(size=(2000, n, 1)).astype(np.float32)
    ]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - 1.052464) < 4 * error


def test_the_knots_are_an_integral():
  def integrand(t):
    return (1 - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)

  exact, _ = scipy.integrate.quad(integrand, -3, 3)
  np.testing.assert_allclose(_lejepa.COLLAPSED, exact, rtol=2e-2)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
@pytest.mark.parametrize('flattened', [False, True])
def test_replicas_together_equal_one_device(mapping, flattened):
  # Rows in order of size: a device's own mean is far from the global one.
  rows = tuple(np.sort(z, axis=0) for z in embeddings(3, 32, 6))

  def loss(rows, axis_name=None):
    return lejepa(
      rows, DIRECTIONS, weight=0.3, flattened=flattened, axis_name=axis_name
    )

  ours = replicas.value_and_grad(loss, rows, mapping=mapping)
  whole = jax.jit(jax.value_and_grad(loss))(rows)
  replicas.assert_same(ours, whole, rtol=1e-5)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
def test_of_the_test_alone_too(mapping):
  """Nothing beside it makes its gradient each replica's own."""
  rows = (np.sort(embeddings(1, 32, 6)[0], axis=0),)

  def loss(rows, axis_name=None):
    return sigreg(rows[0], DIRECTIONS, axis_name=axis_name)

  ours = replicas.value_and_grad(loss, rows, mapping=mapping)
  replicas.assert_same(ours, jax.value_and_grad(loss)(rows), rtol=1e-5)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('factor', [0, 1e4, 1e-20])
def test_finite_in_adverse_batches(factor, dtype):
  views = tuple(jnp.asarray(factor * z, dtype) for z in embeddings(2, 6, 6))
  value_and_grad = jax.jit(jax.value_and_grad(lejepa))
  for batch in (views, views[:1] * 2, tuple(jnp.ones_like(z) for z in views)):
    loss, gradient = value_and_grad(batch, DIRECTIONS)
    assert loss.dtype == jnp.float32 and jnp.isfinite(loss)
    assert all(jnp.isfinite(g).all() for g in gradient)


def test_directions_have_length_1_and_change_with_the_key():
  first, second = (
    _lejepa.directions(jax.random.key(i), 5, 7) for i in range(2)
  )
  np.testing.assert_allclose(jnp.linalg.norm(first, axis=1), 1, rtol=1e-5)
  assert np.abs(first - second).max() > 0.1


def test_what_it_cannot_do_is_said():
  z = np.ones((4, 6), np.float32)
  with pytest.raises(
    ValueError, match='views has length 1; it must be at least 2'
  ):
    lejepa((z,), DIRECTIONS)
