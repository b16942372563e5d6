import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax.models import blocks

RATES = (0.0, 0.25, 0.5)


class Draws(nn.Module):
  """Its output is what is drawn."""

  @nn.compact
  def __call__(self, rows, train=True, axis_name=None, views=1):
    draws = blocks.drop_path(
      self, RATES, rows, train=train, axis_name=axis_name, views=views
    )
    return None if draws[0] is None else jnp.stack(draws)


def draw(*args, seed=0, **mode):
  rngs = {'dropout': jax.random.key(seed)}
  return Draws().apply({}, *args, rngs=rngs, **mode)


@pytest.mark.parametrize('scale, offset', [(1e-3, 0), (1, 1000)])
def test_layer_norm_is_timms(scale, offset):
  """Deviations of 1e-3 show the epsilon, and means of 1000 the variance."""
  x = np.random.default_rng(0).normal(offset, scale, (5, 16))
  x = x.astype(np.float32)
  out = blocks.layer_norm().init_with_output(jax.random.key(0), x)[0]
  x = x.astype(np.float64)
  x -= x.mean(-1, keepdims=True)
  expected = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(out, expected, atol=2e-4)
  half = blocks.layer_norm().init_with_output(
    jax.random.key(0), jnp.ones((2, 4), jnp.bfloat16)
  )[0]
  assert half.dtype == jnp.float32


def test_drop_path_keeps_the_mean():
  draws = np.asarray(draw(20_000, views=2))
  assert (draws.shape, draws.dtype) == ((3, 20_000), np.float32)
  np.testing.assert_array_equal(draws[0], 1)
  for kept, rate in zip(draws[1:], RATES[1:], strict=True):
    np.testing.assert_array_equal(
      np.unique(kept), [0, np.float32(1 / (1 - rate))]
    )
    deviation = np.sqrt(rate * (1 - rate) / 20_000)
    assert abs(np.mean(kept == 0) - rate) < 4 * deviation
    assert abs(np.mean(kept) - 1) < 4 * deviation / (1 - rate)


def test_branches_views_and_keys_are_drawn_apart():
  draws = np.asarray(draw(1000, views=2)) > 0
  first, second = draws[:, :500], draws[:, 500:]
  other = np.asarray(draw(1000, views=2, seed=1)) > 0
  for a, b, both in (
    (first[2], second[2], 0.25),
    (draws[1], draws[2], 0.375),
    (draws[2], other[2], 0.25),
  ):
    assert abs(np.mean(a & b) - both) < 0.08


def test_nothing_is_dropped_outside_of_training():
  assert Draws().apply({}, 4, train=False) is None
  # Nor while initializing, which is outside of the mapping of devices.
  assert Draws().init_with_output(jax.random.key(0), 4)[0] is None


def test_drop_path_does_not_depend_on_the_devices():
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )

  def local():
    return draw(2 * 3, axis_name='data', views=2).reshape(3, 2, 3)

  out = jax.jit(
    jax.shard_map(
      local, mesh=mesh, in_specs=(), out_specs=P(None, None, 'data')
    )
  )()
  np.testing.assert_array_equal(out, draw(2 * 24, views=2).reshape(3, 2, 24))
  pmapped = jax.pmap(lambda _: local(), axis_name='data', out_axes=2)(
    jnp.zeros(8)
  )
  np.testing.assert_array_equal(np.reshape(pmapped, out.shape), out)
