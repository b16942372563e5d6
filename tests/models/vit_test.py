import functools
import math
import re

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import scipy.special
from jax.sharding import PartitionSpec as P

from contrastive_jax.models import blocks, positions, vit
from tests import tiny

FIELDS = dict(
  name='_vit_micro',
  patch_size=4,
  pool='token',
  registers=0,
  positions='learned',
  interpolation='dino',
  pretrained_size=0,
  depth=0,
  heads=0,
  layer_scale=0.0,
  drop_path=0.0,
  drop_path_uniform=False,
  vit_init='trunc_normal',
  dtype='float32',
  remat='none',
)


def make(image_size=12, **fields):
  c = ml_collections.ConfigDict({**FIELDS, **fields})
  return tiny.make_encoder(c, image_size)


def random_images(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


IMAGES = random_images(3, 12, 12, 3)


def shapes_of(encoder, images):
  init = functools.partial(encoder.init, train=False)
  return jax.eval_shape(init, jax.random.key(0), images)['params']


def random_params(encoder, images=IMAGES, seed=1):
  """Every parameter is random: no zero hides a branch."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda a: np.float32(0.3 * rng.normal(size=a.shape)),
    shapes_of(encoder, images),
  )


def run(encoder, params, images=IMAGES, train=False):
  rngs = {'dropout': jax.random.key(7)} if train else None
  apply = functools.partial(encoder.apply, train=train, rngs=rngs)
  return jax.jit(apply)({'params': params}, images)


@pytest.mark.parametrize(
  'name, patch_size, parameters',
  [
    ('vit_tiny', 16, 5_524_416),
    ('vit_small', 16, 21_665_664),
    ('vit_small', 8, 21_670_272),
    ('vit_base', 16, 85_798_656),
    ('vit_large', 16, 303_301_632),
  ],
)
def test_parameter_counts(name, patch_size, parameters):
  """Those of timm without a classifier."""
  encoder = make(224, name=name, patch_size=patch_size)
  images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
  params = shapes_of(encoder, images)
  assert sum(x.size for x in jax.tree.leaves(params)) == parameters
  apply = functools.partial(encoder.apply, train=False)
  out = jax.eval_shape(apply, {'params': params}, images)
  assert (out.shape, out.dtype) == ((2, encoder.width), jnp.float32)
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype('float32')}


# A forward pass in NumPy, written from the paper.


def np_norm(x, p):
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  return (x - mean) / np.sqrt(var + 1e-6) * p['scale'] + p['bias']


def np_linear(x, p):
  return x @ p['kernel'] + p['bias']


def np_attention(x, p, heads):
  query, key, value = (
    np.split(np_linear(x, p[name]), heads, axis=-1)
    for name in ('query', 'key', 'value')
  )
  out = []
  for q, k, v in zip(query, key, value, strict=True):
    scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out.append(weights / weights.sum(-1, keepdims=True) @ v)
  return np_linear(np.concatenate(out, axis=-1), p['out'])


def np_mlp(x, p):
  x = np_linear(x, p['dense1'])
  x *= (1 + scipy.special.erf(x / math.sqrt(2))) / 2
  return np_linear(x, p['dense2'])


def np_vit(images, p, table, patch=4, heads=2, pool='token', keep=None):
  p = jax.tree.map(np.float64, p)
  patches = [
    np.einsum(
      'bijc,ijcd->bd',
      images[:, i : i + patch, j : j + patch],
      p['patch_embed']['kernel'],
    )
    for i in range(0, images.shape[1], patch)
    for j in range(0, images.shape[2], patch)
  ]
  x = np.stack(patches, axis=1) + p['patch_embed']['bias']
  b, _, width = x.shape
  cls = np.broadcast_to(p['cls_token'], (b, 1, width))
  x = np.concatenate([cls, x], axis=1) + table
  registers = p.get('registers', np.zeros((1, 0, width)))
  registers = np.broadcast_to(registers, (b, *registers.shape[1:]))
  x = np.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)
  for i in (0, 1):
    block = p[f'block{i + 1}']
    y = np_attention(np_norm(x, block['norm1']), block['attn'], heads)
    factor = 1 if keep is None else keep[2 * i][:, None, None]
    x = x + y * block.get('scale1', 1) * factor
    y = np_mlp(np_norm(x, block['norm2']), block['mlp'])
    factor = 1 if keep is None else keep[2 * i + 1][:, None, None]
    x = x + y * block.get('scale2', 1) * factor
  if pool == 'mean':
    return np_norm(x[:, 1 + registers.shape[1] :].mean(1), p['norm'])
  return np_norm(x[:, 0], p['norm'])


@pytest.mark.parametrize(
  'fields, channels',
  [
    ({}, 3),
    (dict(registers=3, pool='mean', layer_scale=1.0, remat='blocks'), 5),
    (dict(registers=2, heads=4, layer_scale=1e-5, positions='sincos'), 1),
  ],
)
def test_forward_is_the_papers(fields, channels):
  encoder = make(12, **fields)
  images = random_images(3, 12, 12, channels)
  params = random_params(encoder, images)
  assert ('pos_embed' in params) == (encoder.positions == 'learned')
  assert ('scale1' in params['block1']) == bool(encoder.layer_scale)
  table = params.get('pos_embed', positions.sincos((3, 3), 32))
  expected = np_vit(
    images, params, table, heads=encoder.heads, pool=encoder.pool
  )
  out = run(encoder, params, images)
  np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize('interpolation', ['dino', 'timm'])
def test_other_sizes_interpolate(interpolation):
  images = random_images(2, 8, 20, 3)
  encoder = make(12, pretrained_size=28, interpolation=interpolation)
  params = random_params(encoder, images)
  assert params['pos_embed'].shape == (1, 1 + 7 * 7, 32)
  table = jnp.asarray(params['pos_embed'])
  table = positions.resize(table, (7, 7), (2, 5), interpolation)
  expected = np_vit(images, params, np.asarray(table))
  np.testing.assert_allclose(run(encoder, params, images), expected, atol=1e-5)


def test_sincos_positions_interpolate_likewise():
  encoder = make(12, positions='sincos')
  images = random_images(2, 8, 8, 3)
  params = random_params(encoder, images)
  table = jnp.asarray(positions.sincos((3, 3), 32))
  table = positions.resize(table, (3, 3), (2, 2), 'dino')
  expected = np_vit(images, params, np.asarray(table))
  np.testing.assert_allclose(run(encoder, params, images), expected, atol=1e-5)


def test_layer_scale_of_zero_leaves_the_class_token():
  encoder = make(layer_scale=1e-5)
  params = random_params(encoder)
  for i in (1, 2):
    for j in (1, 2):
      params[f'block{i}'][f'scale{j}'] *= 0
  token = params['cls_token'] + params['pos_embed'][:, :1]
  expected = np_norm(np.broadcast_to(token[:, 0], (3, 32)), params['norm'])
  out = run(encoder, params)
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_drop_path_multiplies_the_branches(monkeypatch):
  keep = np.random.default_rng(0).uniform(size=(4, 3)).astype(np.float32)
  rates = []

  def drawn(module, of_branches, rows, **mode):
    rates.extend(of_branches)
    return list(keep)

  monkeypatch.setattr(blocks, 'drop_path', drawn)
  encoder = make(layer_scale=0.1, drop_path=0.3)
  params = random_params(encoder)
  rates.clear()
  out = run(encoder, params, train=True)
  assert rates == [0, 0, 0.3, 0.3]
  expected = np_vit(IMAGES, params, params['pos_embed'], keep=keep)
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_training_is_evaluation_without_drop_path():
  params = random_params(make())
  expected = run(make(), params)
  np.testing.assert_array_equal(run(make(), params, train=True), expected)
  dropping = make(drop_path=0.5)
  np.testing.assert_array_equal(run(dropping, params), expected)
  assert np.any(run(dropping, params, train=True) != expected)


@pytest.mark.parametrize('remat', ['none', 'blocks'])
def test_encoder_does_not_depend_on_the_devices(remat):
  """Nor does its gradient, nor either on remat."""
  fields: dict = dict(drop_path=0.5, layer_scale=0.1, registers=1)
  reference, encoder = make(8, **fields), make(8, **fields, remat=remat)
  images = random_images(2, 16, 8, 8, 3)  # 2 views of 16
  params = random_params(encoder, images[0])
  weights = random_images(2, 16, 32)

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
  assert np.any(expected != run(encoder, params, images[0])[0])
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


def test_all_gets_a_gradient():
  """The whole table of positions, through the interpolation, too."""
  encoder = make(16, registers=1, layer_scale=0.1)
  params = random_params(encoder, random_images(1, 16, 16, 3))
  weights = random_images(3, 32)

  def loss(params):
    out = encoder.apply({'params': params}, IMAGES, train=False)
    return jnp.sum(jnp.asarray(out) * weights)

  gradient = jax.jit(jax.grad(loss))(params)
  for path, x in jax.tree_util.tree_leaves_with_path(gradient):
    # A bias of the keys adds the same to all scores of a query.
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if not name.endswith('key/bias'):
      assert np.any(x != 0), name
  assert gradient['pos_embed'].shape == (1, 17, 32)
  assert np.all(np.any(gradient['pos_embed'] != 0, axis=-1))


def test_remat_computes_blocks_again():
  params = random_params(make())

  def count(remat):
    encoder = make(remat=remat)

    def loss(params):
      return encoder.apply({'params': params}, IMAGES, train=False).sum()

    text = str(jax.make_jaxpr(jax.grad(loss))(params))
    return text.count('= remat2[') + text.count('= checkpoint[')

  assert (count('none'), count('blocks')) == (0, 2)


def test_bfloat16_keeps_float32_parameters_norms_and_features():
  encoder, reference = make(dtype='bfloat16'), make()
  assert {x.dtype for x in jax.tree.leaves(shapes_of(encoder, IMAGES))} == {
    np.dtype('float32')
  }
  params = random_params(encoder)
  apply = functools.partial(encoder.apply, train=False)
  text = str(jax.make_jaxpr(apply)({'params': params}, IMAGES))
  types = re.findall(r':(\w+)\[[^]]*\] = dot_general', text)
  # Query, key, value; scores, float32 for the softmax, means; out; perceptron.
  block = ['bf16'] * 3 + ['f32', 'bf16'] + ['bf16'] * 3
  assert types == ['bf16', *block, *block]
  out = run(encoder, params)
  assert out.dtype == jnp.float32
  error = np.abs(out - run(reference, params))
  # Features have deviation 0.4; 8 bits of mantissa are 0.4 percent.
  assert 0 < error.max() < 0.02


def deviation(x):
  return float(np.sqrt(np.mean(np.square(x))))


def test_parameters_start_as_dinos():
  encoder = make(224, name='vit_tiny', patch_size=16, registers=4)
  params = initial(encoder)
  block = params['block2']
  for kernel in (
    *(block['attn'][name]['kernel'] for name in ('query', 'value', 'out')),
    *(block['mlp'][name]['kernel'] for name in ('dense1', 'dense2')),
    params['pos_embed'],
  ):
    assert abs(deviation(kernel) / 0.02 - 1) < 0.03
  assert abs(deviation(params['cls_token']) / 0.02 - 1) < 0.3
  assert abs(deviation(params['registers']) / 1e-6 - 1) < 0.3
  for x in jax.tree.leaves(params['patch_embed']):
    bound = 1 / math.sqrt(3 * 16 * 16)
    assert 0.9 * bound < np.abs(x).max() <= bound
    assert abs(deviation(x) * math.sqrt(3) / bound - 1) < 0.2


def test_parameters_start_as_moco_v3s():
  encoder = make(224, name='vit_tiny', patch_size=16, vit_init='xavier')
  params = initial(encoder)
  assert abs(deviation(params['cls_token']) / 1e-6 - 1) < 0.3
  np.testing.assert_array_equal(params['patch_embed']['bias'], 0)
  block = params['block2']
  for kernel, fans in (
    (params['patch_embed']['kernel'], 3 * 16 * 16 + 192),
    (block['attn']['query']['kernel'], 2 * 192),
    (block['attn']['out']['kernel'], 2 * 192),
    (block['mlp']['dense1']['kernel'], 5 * 192),
    (block['mlp']['dense2']['kernel'], 5 * 192),
  ):
    bound = math.sqrt(6 / fans)
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert abs(deviation(kernel) * math.sqrt(3) / bound - 1) < 0.02


def initial(encoder):
  """Parameters with two blocks alone: it compiles faster."""
  encoder = encoder.clone(depth=2)
  images = jnp.zeros((1, 16, 16, 3))
  init = jax.jit(functools.partial(encoder.init, train=False))
  return init(jax.random.key(0), images)['params']


def test_layer_scale_starts_as_configured():
  params = initial(make(layer_scale=1e-5))
  for i in (1, 2):
    np.testing.assert_array_equal(
      params['block2'][f'scale{i}'], np.float32(1e-5)
    )


@pytest.mark.parametrize(
  'fields, message',
  [
    (dict(name='vit_smal'), "no encoder 'vit_smal'.* did you mean 'vit_small'"),
    (dict(pool='max'), "pool 'max' is unknown to _vit_micro: token, mean"),
    (dict(positions='rope'), "positions 'rope' is .*: learned, sincos"),
    (dict(interpolation='hf'), "'hf' is .*: dino, dinov2_registers, timm"),
    (dict(vit_init='he'), "'he' is unknown .*: trunc_normal, xavier"),
    (dict(dtype='float16'), "'float16' is unknown .*: float32, bfloat16"),
    (dict(remat='all'), "remat 'all' is unknown .*: none, blocks"),
    (dict(patch_size=5), '12 x 12 pixels cannot be cut into patches of 5 x 5'),
    (dict(pretrained_size=30), '30 x 30 pixels cannot .* 32 x 32 can'),
    (dict(heads=5), 'heads is 5, which does not divide the width .*, 32'),
    (dict(drop_path=1.0), 'drop_path is 1.0: .* at least 0 and below 1'),
  ],
)
def test_wrong_fields_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    make(12, **fields)


def test_images_of_other_sizes_have_to_be_patches():
  encoder = make()
  with pytest.raises(ValueError, match='12 x 10 pixels cannot be cut'):
    shapes_of(encoder, random_images(1, 12, 10, 3))


def test_the_encoder_is_what_heads_need():
  c = ml_collections.ConfigDict({**FIELDS, 'dtype': 'bfloat16'})
  encoder = vit.make(c, ml_collections.ConfigDict(dict(input_shape=(8, 8, 3))))
  assert (encoder.features, encoder.norm_group) == (32, None)
  assert encoder.dtype == jnp.bfloat16
