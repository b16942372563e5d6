import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from contrastive_jax.models import normalization

VIEWS, EXAMPLES = 2, 16
SHAPE = (VIEWS, EXAMPLES, 3, 2, 5)  # an image is 3 x 2, with 5 channels
MAPPINGS = ('shard_map', 'shard_map unchecked', 'pmap')


def random_inputs(seed=0):
  rng = np.random.default_rng(seed)
  # Examples differ in mean and scale, so that the choice of groups matters.
  scale = rng.uniform(0.5, 2, (VIEWS, EXAMPLES, 1, 1, 1))
  offset = rng.normal(size=(VIEWS, EXAMPLES, 1, 1, SHAPE[-1]))
  x = (scale * rng.normal(size=SHAPE) + offset).astype(np.float32)
  return x, rng.normal(size=SHAPE).astype(np.float32)


def variables():
  rng = np.random.default_rng(1)
  return {
    'params': {
      'scale': jnp.float32(rng.normal(size=SHAPE[-1])),
      'bias': jnp.float32(rng.normal(size=SHAPE[-1])),
    },
    'batch_stats': {
      'mean': jnp.float32(rng.normal(size=SHAPE[-1])),
      'var': jnp.float32(rng.uniform(1, 2, size=SHAPE[-1])),
    },
  }


def value_and_gradients(module, v, x, weight, axis_name=None):
  """One replica: outputs, gradients and statistics for x [views, b, ...]."""
  if axis_name:
    v = {
      **v,
      'params': jax.lax.pcast(v['params'], axis_name, to='varying'),
    }

  def loss_fn(params, x):
    y, new = module.apply(
      {**v, 'params': params},
      x.reshape(-1, *x.shape[2:]),
      train=True,
      axis_name=axis_name,
      views=VIEWS,
      mutable=['batch_stats'],
    )
    y = y.reshape(x.shape)
    return jnp.mean(y * weight), (y, new['batch_stats'])

  (grads, x_grad), (y, stats) = jax.grad(loss_fn, (0, 1), has_aux=True)(
    v['params'], x
  )
  if axis_name:
    grads = jax.lax.pmean(grads, axis_name)
    # Of the sum of the replicas' losses: the mean is one device's loss.
    x_grad /= jax.lax.axis_size(axis_name)
  return y, x_grad, grads, stats


def on_devices(devices, mapping, module, v, x, weight):
  """`value_and_gradients` with examples spread over the devices, in order."""
  replica = functools.partial(value_and_gradients, module, axis_name='data')
  if mapping == 'pmap':

    def split(x):
      x = x.reshape(VIEWS, devices, -1, *x.shape[2:])
      return x.swapaxes(0, 1)

    y, x_grad, grads, stats = jax.pmap(
      replica,
      axis_name='data',
      in_axes=(None, 0, 0),
      devices=jax.devices()[:devices],
    )(v, split(x), split(weight))
    y, x_grad = (
      np.asarray(a).swapaxes(0, 1).reshape(SHAPE) for a in (y, x_grad)
    )
    grads, stats = jax.tree.map(lambda a: np.asarray(a)[0], (grads, stats))
    return y, x_grad, grads, stats
  mesh = jax.make_mesh(
    (devices,),
    ('data',),
    axis_types=(AxisType.Auto,),
    devices=jax.devices()[:devices],
  )
  rows = P(None, 'data')
  mapped = jax.shard_map(
    replica,
    mesh=mesh,
    in_specs=(P(), rows, rows),
    out_specs=(rows, rows, P(), P()),
    check_vma=mapping == 'shard_map',
  )
  return jax.jit(mapped)(v, x, weight)


@functools.cache
def on_one_device(group):
  module = normalization.BatchNorm(group=group)
  return jax.jit(functools.partial(value_and_gradients, module))(
    variables(), *random_inputs()
  )


def assert_close(actual, expected, tolerance=1e-5):
  """Relative to the largest entry of each array."""

  def check(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())

  jax.tree.map(check, actual, jax.tree.map(np.asarray, expected))


@pytest.mark.parametrize('mapping', MAPPINGS)
def test_global_statistics_do_not_depend_on_the_devices(mapping):
  actual = on_devices(
    8, mapping, normalization.BatchNorm(), variables(), *random_inputs()
  )
  assert_close(actual, on_one_device(None))


@pytest.mark.parametrize(
  'group, devices, mapping',
  [
    (2, 2, 'shard_map'),  # 8 examples of a view a device: 4 groups
    (2, 8, 'shard_map'),  # 2: one group
    (4, 4, 'shard_map'),  # 4: one group
    (4, 8, 'shard_map'),  # 2: a group over 2 devices
    (8, 2, 'shard_map'),
    (8, 8, 'shard_map'),  # a group over 4 devices
    (16, 4, 'shard_map'),  # a group over all devices
    (4, 2, 'shard_map unchecked'),
    (8, 8, 'shard_map unchecked'),
    (4, 2, 'pmap'),
    (8, 8, 'pmap'),
  ],
)
def test_ghost_statistics_do_not_depend_on_the_devices(group, devices, mapping):
  module = normalization.BatchNorm(group=group)
  actual = on_devices(devices, mapping, module, variables(), *random_inputs())
  assert_close(actual, on_one_device(group))


@pytest.mark.parametrize('group', [2, 4, 16])
def test_ghost_groups_are_consecutive_examples_of_one_view(group):
  x, _ = random_inputs()
  v = jax.tree.map(np.asarray, variables())
  expected = np.zeros_like(x)
  means, variances = [], []
  for view in range(VIEWS):
    for start in range(0, EXAMPLES, group):
      of_group = x[view, start : start + group]
      mean, var = of_group.mean((0, 1, 2)), of_group.var((0, 1, 2))
      expected[view, start : start + group] = (of_group - mean) / np.sqrt(
        var + 1e-5
      ) * v['params']['scale'] + v['params']['bias']
      means.append(mean)
      variances.append(var)
  stats = {
    'mean': 0.9 * v['batch_stats']['mean'] + 0.1 * np.mean(means, 0),
    'var': 0.9 * v['batch_stats']['var'] + 0.1 * np.mean(variances, 0),
  }
  y, _, _, new_stats = on_one_device(group)
  assert_close((y, new_stats), (expected, stats))


def test_global_batch_norm_is_flax_batch_norm():
  x, weight = random_inputs()
  v = variables()

  def loss_fn(params, x):
    y, new = nn.BatchNorm(use_running_average=False, momentum=0.9).apply(
      {**v, 'params': params}, x, mutable=['batch_stats']
    )
    return jnp.mean(y * weight), (y, new['batch_stats'])

  (grads, x_grad), (y, stats) = jax.jit(
    jax.grad(loss_fn, (0, 1), has_aux=True)
  )(v['params'], x)
  assert_close(on_one_device(None), (y, x_grad, grads, stats))


def test_evaluation_takes_the_running_statistics_and_leaves_them():
  x, _ = random_inputs()
  v = variables()
  y, new = normalization.BatchNorm(group=7).apply(
    v, x, train=False, mutable=['batch_stats']
  )
  expected = nn.BatchNorm(use_running_average=True).apply(v, x)
  assert_close(y, expected)
  assert_close(new['batch_stats'], v['batch_stats'], tolerance=0)


def test_options_choose_the_parameters():
  x = jnp.ones((3, 5))  # initializing asks no groups and no mapped axis
  init = functools.partial(
    normalization.BatchNorm(group=32, use_bias=False).init,
    train=True,
    axis_name='data',
  )
  v = init(jax.random.key(0), x)
  assert jax.tree.map(jnp.shape, v) == {
    'params': {'scale': (5,)},
    'batch_stats': {'mean': (5,), 'var': (5,)},
  }
  plain = normalization.BatchNorm(use_scale=False, use_bias=False)
  assert 'params' not in plain.init(jax.random.key(0), x, train=True)


@pytest.mark.parametrize('group', [None, 2])
@pytest.mark.parametrize('devices', [1, 8])
def test_a_large_mean_leaves_the_variance_exact(group, devices):
  # float32 numbers near 1000 are 6e-5 apart: E[x^2] - E[x]^2 is off by more
  # than the whole variance, 0.01.
  rng = np.random.default_rng(0)
  x = (1000 + 0.1 * rng.normal(size=SHAPE)).astype(np.float32)
  v = variables()
  v['batch_stats'] = {'mean': jnp.zeros(5), 'var': jnp.zeros(5)}
  module = normalization.BatchNorm(group=group, momentum=0.0)
  if devices == 1:
    replica = functools.partial(value_and_gradients, module)
    y, _, _, stats = jax.jit(replica)(v, x, np.ones_like(x))
  else:
    y, _, _, stats = on_devices(
      devices, 'shard_map', module, v, x, np.ones_like(x)
    )
  exact = x.astype(np.float64).reshape(VIEWS, -1, group or EXAMPLES, 6, 5)
  axes = (0, 1, 2, 3) if group is None else (2, 3)
  mean, var = exact.mean(axes, keepdims=True), exact.var(axes, keepdims=True)
  # The mean itself is rounded, by about 1e-3: 1 % of the standard deviation.
  np.testing.assert_allclose(
    stats['var'], var.reshape(-1, 5).mean(0), rtol=1e-3
  )
  expected = (exact - mean) / np.sqrt(var + 1e-5) * v['params']['scale']
  expected = expected.reshape(SHAPE) + v['params']['bias']
  np.testing.assert_allclose(y, expected, atol=0.03)


def test_bfloat16_has_float32_statistics():
  x = jnp.asarray(random_inputs()[0], jnp.bfloat16)
  v = variables()
  module = normalization.BatchNorm(momentum=0.0)
  y, new = module.apply(v, x, train=True, mutable=['batch_stats'])
  assert y.dtype == jnp.bfloat16
  exact = np.asarray(x, np.float64)
  stats = new['batch_stats']
  assert stats['mean'].dtype == stats['var'].dtype == jnp.float32
  np.testing.assert_allclose(stats['var'], exact.var((0, 1, 2, 3)), rtol=1e-5)
  np.testing.assert_allclose(stats['mean'], exact.mean((0, 1, 2, 3)), atol=1e-6)
  in_float32, _ = module.apply(
    v, x.astype(jnp.float32), train=True, mutable=['batch_stats']
  )
  np.testing.assert_array_equal(y, in_float32.astype(jnp.bfloat16))


@pytest.mark.parametrize(
  'group, devices, message',
  [
    (6, 1, r'16 examples a view \(over 1 devices\) .* groups of 6'),
    (32, 8, r'16 examples a view \(over 8 devices\) .* groups of 32'),
  ],
)
def test_groups_that_do_not_tile_the_batch_are_refused(group, devices, message):
  module = normalization.BatchNorm(group=group)
  arguments = module, variables(), *random_inputs()
  with pytest.raises(ValueError, match=message):
    if devices == 1:
      value_and_gradients(*arguments)
    else:
      on_devices(devices, 'shard_map', *arguments)


def test_a_group_that_straddles_devices_is_refused():
  x = np.ones((2, 6, 4), np.float32)  # 2 devices with 6 examples each
  v = {'batch_stats': {'mean': jnp.zeros(4), 'var': jnp.ones(4)}}
  module = normalization.BatchNorm(4, use_scale=False, use_bias=False)
  apply = functools.partial(
    module.apply, train=True, axis_name='data', mutable=['batch_stats']
  )
  with pytest.raises(ValueError, match='group of 4 .* the 6 examples'):
    jax.vmap(lambda x: apply(v, x), axis_name='data')(x)


def test_unequal_views_are_refused():
  module = normalization.BatchNorm(1, use_scale=False, use_bias=False)
  v = {'batch_stats': {'mean': jnp.zeros(4), 'var': jnp.ones(4)}}
  with pytest.raises(ValueError, match='5 rows are not 2 equal views'):
    module.apply(v, jnp.ones((5, 4)), train=True, views=2)


def test_parse_norm():
  assert normalization.parse_norm('global') is None
  assert normalization.parse_norm('ghost:32') == 32
  for text in ('ghost', 'ghost:0', 'ghost:-2', 'ghost:x', 'batch', 'global:2'):
    with pytest.raises(ValueError, match=f"norm '{text}' is unknown"):
      normalization.parse_norm(text)
