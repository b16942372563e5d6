"""The kernel's gradient in groups is JAX's own, and only a CPU's."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax.models import convolution
from contrastive_jax.models.resnet import ResNet


def _plain(x, kernel, stride):
  """As JAX has it; symmetric padding, as in torchvision."""
  pad = (len(kernel) // 2, len(kernel) // 2)
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    (pad, pad),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def _gradients(conv, x, kernel, stride):
  return jax.grad(lambda x, k: jnp.sin(conv(x, k, stride)).sum(), (0, 1))(
    x, kernel
  )


def _input(shape, size, features, dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0))
  kernel_shape = (size, size, shape[-1], features)
  return (
    jax.random.normal(keys[0], shape, dtype),
    jax.random.normal(keys[1], kernel_shape, dtype),
  )


@pytest.mark.parametrize('rows', [6, 7])  # groups of 3, and of 1
@pytest.mark.parametrize(
  ('pixels', 'size', 'stride'),
  [((8, 8), 3, 1), ((8, 8), 3, 2), ((7, 9), 3, 2), ((12, 10), 7, 2)],
)
def test_the_gradient_is_that_of_the_whole_batch(
  monkeypatch, rows, pixels, size, stride
):
  x, kernel = _input((rows, *pixels, 4), size, 5)
  row = x.nbytes // rows
  monkeypatch.setattr(convolution, '_GROUP_BYTES', max(3 * row, kernel.nbytes))
  monkeypatch.setattr(
    convolution, '_group', lambda rows, _: 3 if rows == 6 else 1
  )
  np.testing.assert_allclose(
    convolution.convolve(x, kernel, stride), _plain(x, kernel, stride)
  )
  ours = _gradients(convolution.convolve, x, kernel, stride)
  for ours_of, theirs_of in zip(
    ours, _gradients(_plain, x, kernel, stride), strict=True
  ):
    scale = float(jnp.abs(theirs_of).max())
    np.testing.assert_allclose(ours_of, theirs_of, atol=1e-5 * scale)


def test_a_group_is_the_largest_divisor_that_the_cache_holds():
  mebibyte = 2**20
  assert convolution._group(96, mebibyte // 33) == 32
  assert convolution._group(97, mebibyte // 33) == 1
  assert convolution._group(8, 1) == 8
  assert convolution._group(4, 3 * mebibyte) == 1


def test_under_shard_map_a_shared_kernel_gets_the_sum(monkeypatch):
  monkeypatch.setattr(convolution, '_GROUP_BYTES', 2 * 6 * 6 * 4 * 4)
  x, kernel = _input((16, 6, 6, 4), 3, 4)
  mesh = jax.make_mesh(
    (4,), ('replica',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  mapped = jax.shard_map(
    functools.partial(_gradients, convolution.convolve, stride=1),
    mesh=mesh,
    in_specs=(P('replica'), P()),
    out_specs=(P('replica'), P()),
  )
  for ours, theirs in zip(
    jax.jit(mapped)(x, kernel), _gradients(_plain, x, kernel, 1), strict=True
  ):
    scale = float(jnp.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale)


def test_a_loop_has_no_slow_convolution(monkeypatch):
  """XLA:CPU is slow with other orders of dimensions in the body of a loop."""
  monkeypatch.setattr(convolution, '_GROUP_BYTES', 2 * 12 * 12 * 4 * 4)
  x, kernel = _input((3, 8, 12, 12, 4), 3, 4)

  def orders(conv):
    compiled = jax.jit(
      lambda x, kernel: jax.lax.map(lambda x: _gradients(conv, x, kernel, 1), x)
    ).lower(x, kernel)
    text = compiled.compile().as_text() or ''
    return set(re.findall(r'dim_labels=(\S+?)[,\s]', text))

  assert orders(convolution.convolve) == {'b01f_01io->b01f'}
  assert orders(_plain) > {'b01f_01io->b01f'}  # or this test shows nothing


def test_other_devices_have_nothing_of_it():
  encoder = ResNet((1,), 'basic', width=8, stem='cifar')
  images = jnp.zeros((256, 28, 28, 1))
  variables = encoder.init(jax.random.key(0), images[:1], train=False)

  @jax.jit
  def gradient(params):
    return jax.grad(
      lambda params: encoder.apply(
        {**variables, 'params': params}, images, train=False
      ).sum()
    )(params)

  def loops(platform):
    traced = gradient.trace(variables['params'])
    lowered = traced.lower(lowering_platforms=(platform,)).as_text()
    return lowered.count('stablehlo.while')

  assert loops('cpu') > 0
  assert loops('tpu') == loops('cuda') == 0
