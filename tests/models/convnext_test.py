import functools
import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import scipy.special
from jax.sharding import PartitionSpec as P

from contrastive_jax.models import blocks, convnext
from tests import tiny

FIELDS = dict(
  name='_convnext_micro', drop_path=0.0, dtype='float32', remat='none'
)


def make(image_size=16, **fields):
  c = ml_collections.ConfigDict({**FIELDS, **fields})
  return tiny.make_encoder(c, image_size)


def random_images(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def shapes_of(encoder, images):
  init = functools.partial(encoder.init, train=False)
  return jax.eval_shape(init, jax.random.key(0), images)['params']


def random_params(encoder, images, seed=1):
  """Every parameter is random: no scale of almost zero hides a branch."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda a: np.float32(0.3 * rng.normal(size=a.shape)),
    shapes_of(encoder, images),
  )


def run(encoder, params, images, train=False):
  rngs = {'dropout': jax.random.key(7)} if train else None
  apply = functools.partial(encoder.apply, train=train, rngs=rngs)
  return jax.jit(apply)({'params': params}, images)


@pytest.mark.parametrize(
  'name, parameters, features',
  [
    ('convnext_tiny', 27_820_128, 768),
    ('convnext_small', 49_454_688, 768),
    ('convnext_base', 87_566_464, 1024),
  ],
)
def test_parameter_counts(name, parameters, features):
  """Those of timm without a classifier."""
  encoder = make(224, name=name)
  images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
  params = shapes_of(encoder, images)
  assert sum(x.size for x in jax.tree.leaves(params)) == parameters
  apply = functools.partial(encoder.apply, train=False)
  out = jax.eval_shape(apply, {'params': params}, images)
  assert (out.shape, out.dtype) == ((2, features), jnp.float32)


# A forward pass in NumPy, written from the paper.


def np_norm(x, p):
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  return (x - mean) / np.sqrt(var + 1e-6) * p['scale'] + p['bias']


def np_patches(x, p):
  """A convolution whose stride is its size; what is left over is cut off."""
  size = len(p['kernel'])
  rows, columns = x.shape[1] // size, x.shape[2] // size
  x = x[:, : rows * size, : columns * size]
  x = x.reshape(len(x), rows, size, columns, size, -1)
  return np.einsum('biujvc,uvcd->bijd', x, p['kernel']) + p['bias']


def np_depthwise(x, p):
  rows, columns = x.shape[1:3]
  x = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
  return p['bias'] + sum(
    x[:, i : i + rows, j : j + columns] * p['kernel'][i, j, 0]
    for i in range(7)
    for j in range(7)
  )


def np_block(x, p, keep):
  y = np_norm(np_depthwise(x, p['conv']), p['norm'])
  y = y @ p['mlp']['dense1']['kernel'] + p['mlp']['dense1']['bias']
  y *= (1 + scipy.special.erf(y / math.sqrt(2))) / 2
  y = y @ p['mlp']['dense2']['kernel'] + p['mlp']['dense2']['bias']
  return x + y * p['scale'] * keep[:, None, None, None]


def np_convnext(images, p, keep):
  p = jax.tree.map(np.float64, p)
  x = np_norm(np_patches(images, p['stem_conv']), p['stem_norm'])
  x = np_block(x, p['stage1_block1'], keep[0])
  x = np_block(x, p['stage1_block2'], keep[1])
  x = np_patches(np_norm(x, p['stage2_norm']), p['stage2_conv'])
  x = np_block(x, p['stage2_block1'], keep[2])
  return np_norm(x.mean((1, 2)), p['norm'])


@pytest.mark.parametrize('shape', [(16, 24, 3), (15, 29, 5), (8, 8, 1)])
def test_forward_is_the_papers(shape):
  images = random_images(3, *shape)
  encoder = make(remat='blocks')
  params = random_params(encoder, images)
  expected = np_convnext(images, params, np.ones((3, 3)))
  out = run(encoder, params, images)
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_drop_path_multiplies_the_branches(monkeypatch):
  keep = np.random.default_rng(0).uniform(size=(3, 2)).astype(np.float32)
  rates = []

  def drawn(module, of_branches, rows, **mode):
    rates.extend(of_branches)
    return list(keep)

  monkeypatch.setattr(blocks, 'drop_path', drawn)
  images = random_images(2, 16, 16, 3)
  encoder = make(drop_path=0.3)
  params = random_params(encoder, images)
  rates.clear()
  out = run(encoder, params, images, train=True)
  np.testing.assert_allclose(rates, [0, 0.15, 0.3])
  expected = np_convnext(images, params, keep)
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_training_is_evaluation_without_drop_path():
  images = random_images(2, 16, 16, 3)
  params = random_params(make(), images)
  expected = run(make(), params, images)
  out = run(make(), params, images, train=True)
  np.testing.assert_array_equal(out, expected)


def test_encoder_does_not_depend_on_the_devices():
  """Nor does its gradient, nor either on remat."""
  reference = make(drop_path=0.5)
  encoder = make(drop_path=0.5, remat='blocks')
  images = random_images(2, 16, 8, 8, 3)  # 2 views of 16
  params = random_params(encoder, images[0])
  weights = random_images(2, 16, 16)

  def features(encoder, params, images, weights, axis_name=None):
    out = encoder.apply(
      {'params': params},
      images.reshape(-1, 8, 8, 3),
      train=True,
      axis_name=axis_name,
      views=2,
      rngs={'dropout': jax.random.key(3)},
    ).reshape(weights.shape)
    return jnp.sum(out * weights), out

  gradient_of = jax.grad(features, argnums=1, has_aux=True)
  whole = jax.jit(functools.partial(gradient_of, reference))
  expected_gradient, expected = whole(params, images, weights)
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  rows = P(None, 'data')
  gradient, out = jax.jit(
    jax.shard_map(
      functools.partial(gradient_of, encoder, axis_name='data'),
      mesh=mesh,
      in_specs=(P(), rows, rows),
      out_specs=(P(), rows),
    )
  )(params, images, weights)
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
    gradient,
    expected_gradient,
  )


def test_bfloat16_keeps_float32_parameters_and_features():
  images = random_images(2, 16, 16, 3)
  encoder = make(dtype='bfloat16')
  types = {x.dtype for x in jax.tree.leaves(shapes_of(encoder, images))}
  assert types == {np.dtype('float32')}
  params = random_params(encoder, images)
  out = run(encoder, params, images)
  assert out.dtype == jnp.float32
  error = np.abs(out - run(make(), params, images))
  # Features have deviation 0.4; 8 bits of mantissa are 0.4 percent.
  assert 0 < error.max() < 0.02


def test_parameters_start_as_the_papers():
  images = jnp.zeros((1, 8, 8, 3))
  init = functools.partial(make().init, train=False)
  params = jax.jit(init)(jax.random.key(0), images)['params']
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if name.endswith('kernel'):
      spread = 0.02 / math.sqrt(2 * x.size)
      assert abs(jnp.std(x) - 0.02) < 5 * spread, name
    elif name.endswith('bias'):
      np.testing.assert_array_equal(x, 0)
    else:
      one = np.float32(1e-6) if 'block' in name and 'norm' not in name else 1
      np.testing.assert_array_equal(x, one)


@pytest.mark.parametrize(
  'fields, message',
  [
    (
      dict(name='convnet_tiny'),
      "'convnet_tiny'.* did you mean 'convnext_tiny'",
    ),
    (dict(dtype='float16'), "'float16' is unknown .*: float32, bfloat16"),
    (dict(remat='all'), "remat 'all' is unknown .*: none, blocks"),
    (dict(drop_path=-0.1), 'drop_path is -0.1: .* at least 0 and below 1'),
  ],
)
def test_wrong_fields_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    make(**fields)


def test_images_cannot_be_smaller_than_the_stride():
  message = r'28 x 40 pixels are too small .* at least 32 x 32\.'
  with pytest.raises(ValueError, match=message):
    shapes_of(make(name='convnext_tiny'), random_images(1, 28, 40, 3))


def test_the_encoder_is_what_heads_need():
  c = ml_collections.ConfigDict({**FIELDS, 'dtype': 'bfloat16'})
  encoder = convnext.make(c, None)
  assert (encoder.features, encoder.norm_group) == (16, None)
  assert encoder.dtype == jnp.bfloat16
