import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from contrastive_jax.losses import koleo
from tests.losses import replicas


def rows(seed, *shape):
  rng = np.random.default_rng(seed)
  return rng.normal(size=shape).astype(np.float32)


Z = rows(0, 64, 16)


def test_equals_the_definition():
  unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
  distances, _ = NearestNeighbors(n_neighbors=2).fit(unit).kneighbors(unit)
  expected = -np.mean(np.log(distances[:, 1]))
  np.testing.assert_allclose(koleo(Z), expected, rtol=1e-5)


@pytest.mark.parametrize(
  ('z', 'expected'),
  [
    (np.eye(8), -0.5 * np.log(2)),
    # exp of it: 1e-8 (1 + sqrt(384)), what keeps the logarithm finite.
    (np.ones((4, 384)), 15.3956),
    # Nearest of all to each other, though opposite: not each to itself.
    (np.array([[1.0, 0.0], [-1.0, 0.0]]), -np.log(2)),
  ],
)
def test_closed_forms(z, expected):
  np.testing.assert_allclose(koleo(jnp.float32(z)), expected, rtol=1e-5)


def test_the_gradient_reaches_both_ends_and_not_the_choice():
  gradient = jax.grad(lambda z: koleo(z))(jnp.asarray(Z[:6], jnp.float32))
  for i, j in ((0, 0), (3, 7)):
    step = np.zeros((6, 16))
    step[i, j] = 1e-3
    numeric = (koleo(Z[:6] + step) - koleo(Z[:6] - step)) / 2e-3
    np.testing.assert_allclose(gradient[i, j], numeric, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
def test_eight_devices_are_one(mapping):
  ours = replicas.value_and_grad(
    lambda z, axis_name: koleo(z[0], axis_name=axis_name),
    (Z,),
    mapping=mapping,
  )
  whole = jax.value_and_grad(lambda z: koleo(z[0]))((Z,))
  replicas.assert_same(ours, whole)


def test_groups_are_the_same_on_any_number_of_devices():
  def loss(z, axis_name=None):
    return koleo(z[0], group=8, axis_name=axis_name)

  ours = replicas.value_and_grad(loss, (Z,))
  whole = jax.value_and_grad(loss)((Z,))
  replicas.assert_same(ours, whole)
  each = np.mean([koleo(part) for part in np.split(Z, 8)])
  np.testing.assert_allclose(whole[0], each, rtol=1e-6)
  assert abs(whole[0] - koleo(Z)) > 0.05


def test_what_has_no_neighbor_is_refused():
  with pytest.raises(ValueError, match='has no neighbors'):
    koleo(Z[:1])
  with pytest.raises(ValueError, match='groups of 5 do not divide the 64'):
    koleo(Z, group=5)
