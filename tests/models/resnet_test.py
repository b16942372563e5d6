import functools
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import config
from contrastive_jax.models import resnet
from tests import tiny


def encoder_config(**fields):
  c = config.base().encoder
  c.update(fields)
  return c


def random_images(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def shapes_of(encoder, image_shape):
  """Shapes of the variables, and of stage 1 and the output for 2 images."""

  def build(images):
    v = encoder.init(jax.random.key(0), images, train=False)
    out, extra = encoder.apply(
      v,
      images,
      train=False,
      mutable=['intermediates'],
      capture_intermediates=lambda module, _: module.name == 'stage1_block1',
    )
    return v, extra['intermediates']['stage1_block1']['__call__'][0], out

  return jax.eval_shape(
    build, jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
  )


def random_variables(encoder, images, seed=1):
  """Every parameter is random: no zero scale hides a branch."""
  rng = np.random.default_rng(seed)
  v = jax.eval_shape(
    functools.partial(encoder.init, train=False), jax.random.key(0), images
  )
  v = jax.tree.map(lambda a: np.float32(0.3 * rng.normal(size=a.shape)), v)
  v['batch_stats'] = jax.tree.map(lambda a: 1 + a**2, v['batch_stats'])
  return v


def count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  'name, parameters',
  [
    # torchvision's counts less those of its classifier.
    ('resnet18', 11_689_512 - 513_000),
    ('resnet34', 21_797_672 - 513_000),
    ('resnet50', 25_557_032 - 2_049_000),
    ('resnet101', 44_549_160 - 2_049_000),
    ('resnet152', 60_192_808 - 2_049_000),
    # Not in torchvision: ResNet-152 and 16 blocks more in stage 2, each with
    # 512 x 128 + 9 x 128 x 128 + 128 x 512 weights and 2 x (128 + 128 + 512)
    # of the norms.
    ('resnet200', 60_192_808 - 2_049_000 + 16 * 280_064),
  ],
)
def test_parameter_counts(name, parameters):
  encoder = tiny.make_encoder(encoder_config(name=name), 224)
  v, stage1, out = shapes_of(encoder, (224, 224, 3))
  assert count(v['params']) == parameters
  assert stage1.shape[1:3] == (56, 56)
  assert out.shape == (2, encoder.features)
  assert encoder.features == (512 if name in ('resnet18', 'resnet34') else 2048)


@pytest.mark.parametrize(
  'image_shape, stem, stage1',
  [
    ((32, 32, 3), 'cifar', (32, 32)),
    ((28, 28, 1), 'cifar', (28, 28)),
    ((64, 64, 13), 'cifar', (64, 64)),
    ((96, 96, 13), 'imagenet', (24, 24)),
    ((225, 97, 1), 'imagenet', (57, 25)),
  ],
)
def test_stem_follows_the_image_size(image_shape, stem, stage1):
  c = encoder_config(name='resnet18', width=16)
  assert resnet.stem_for(c, image_shape[0]) == stem
  v, at_stage1, out = shapes_of(
    tiny.make_encoder(c, image_shape[0]), image_shape
  )
  side = 3 if stem == 'cifar' else 7
  kernel = v['params']['stem_conv']['kernel']
  assert kernel.shape == (side, side, image_shape[-1], 16)
  assert at_stage1.shape == (2, *stage1, 16)
  assert (out.shape, out.dtype) == ((2, 128), jnp.float32)


def test_stem_can_be_chosen():
  for stem in ('cifar', 'imagenet'):
    for size in (32, 224):
      c = encoder_config(stem=stem)
      assert tiny.make_encoder(c, size).stem == stem


def test_width_multiplies_every_stage():
  c = encoder_config(name='resnet50', width=128)
  v, _, out = shapes_of(tiny.make_encoder(c, 224), (224, 224, 3))
  assert out.shape == (2, 4096)
  # Published with SimCLR's 2x ResNet-50 as 94 million.
  assert round(count(v['params']) / 1e6) == 94


# A forward pass in NumPy, written from the paper.


def np_conv(x, kernel, stride):
  size = kernel.shape[0]
  pad = size // 2
  x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
  out = np.zeros((len(x), height, width, kernel.shape[-1]))
  for i in range(size):
    for j in range(size):
      rows = slice(i, i + stride * (height - 1) + 1, stride)
      columns = slice(j, j + stride * (width - 1) + 1, stride)
      out += x[:, rows, columns] @ kernel[i, j]
  return out


def np_norm(x, p):
  axes = (0, 1, 2)
  x = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)
  return x * p['scale'] + p['bias']


def np_max_pool(x):
  x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
  height, width = ((n - 3) // 2 + 1 for n in x.shape[1:3])
  shifts = [
    x[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2]
    for i in range(3)
    for j in range(3)
  ]
  return np.max(shifts, axis=0)


def np_block(x, p, strides):
  y = x
  for i, stride in enumerate(strides, start=1):
    y = np_norm(np_conv(y, p[f'conv{i}']['kernel'], stride), p[f'norm{i}'])
    if i < len(strides):
      y = np.maximum(y, 0)
  if 'shortcut_conv' in p:
    x = np_conv(x, p['shortcut_conv']['kernel'], max(strides))
    x = np_norm(x, p['shortcut_norm'])
  return np.maximum(x + y, 0)


@pytest.mark.parametrize(
  'block, stem, image_shape',
  [('basic', 'imagenet', (18, 21, 3)), ('bottleneck', 'cifar', (7, 8, 1))],
)
def test_forward_is_the_papers(block, stem, image_shape):
  encoder = resnet.ResNet((1, 1), block, width=4, stem=stem)
  images = random_images(3, *image_shape)
  v = random_variables(encoder, images)
  params = v['params']
  apply = functools.partial(encoder.apply, train=True, mutable=['batch_stats'])
  out, _ = jax.jit(apply)(v, images)

  kernel = params['stem_conv']['kernel']
  x = np_conv(images, kernel, 2 if stem == 'imagenet' else 1)
  x = np.maximum(np_norm(x, params['stem_norm']), 0)
  if stem == 'imagenet':
    x = np_max_pool(x)
  for stage, stride in ((1, 1), (2, 2)):
    strides = (stride, 1) if block == 'basic' else (1, stride, 1)
    x = np_block(x, params[f'stage{stage}_block1'], strides)
  np.testing.assert_allclose(out, x.mean((1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('stride', [1, 2])
def test_the_product_is_the_1x1_convolution(stride):
  x = random_images(2, 7, 8, 5)
  conv = resnet._Conv(6, 1, stride, jnp.float32)
  v = conv.init(jax.random.key(1), x)
  expected = nn.Conv(6, (1, 1), stride, use_bias=False).apply(v, x)
  np.testing.assert_allclose(conv.apply(v, x), expected, atol=1e-6)


@pytest.mark.parametrize('kind', ['basic', 'bottleneck'])
def test_zero_init_makes_each_block_its_shortcut(kind):
  x = random_images(2, 4, 4, 4)

  @functools.partial(jax.jit, static_argnums=0)
  def initial_block(zero_init_last_scale):
    width = 4 if kind == 'basic' else 1
    block = resnet._Block(
      kind, width, 1, None, jnp.float32, zero_init_last_scale
    )
    v = block.init(jax.random.key(1), x, train=True)
    return block.apply(v, x, train=True, mutable=['batch_stats'])[0]

  np.testing.assert_array_equal(initial_block(True), np.maximum(x, 0))
  assert np.any(initial_block(False) != np.maximum(x, 0))


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
  images = random_images(4, 8, 8, 3)
  encoder, reference = (
    tiny.make_encoder(encoder_config(name='_tiny', width=8, dtype=d), 8)
    for d in ('bfloat16', 'float32')
  )
  v = jax.eval_shape(
    functools.partial(encoder.init, train=False), jax.random.key(0), images
  )
  assert {a.dtype for a in jax.tree.leaves(v)} == {np.dtype('float32')}
  v = random_variables(encoder, images)
  apply = functools.partial(encoder.apply, train=False)
  text = str(jax.make_jaxpr(apply)(v, images))
  types = re.findall(r':(\w+)\[[^]]*\] = (?:conv_general|dot_general)', text)
  assert types == ['bf16'] * 6  # the stem, 4 in the blocks, 1 shortcut
  out = jax.jit(apply)(v, images)
  assert out.dtype == jnp.float32
  expected = jax.jit(functools.partial(reference.apply, train=False))(v, images)
  np.testing.assert_allclose(out, expected, atol=0.02 * expected.max())


@pytest.mark.parametrize('norm', ['global', 'ghost:4'])
def test_encoder_does_not_depend_on_the_devices(norm):
  encoder = tiny.make_encoder(
    encoder_config(name='_tiny', width=4, norm=norm), 8
  )
  images = random_images(2, 8, 8, 8, 3)  # 2 views of 8
  v = random_variables(encoder, images[0])

  def apply(images, axis_name=None):
    images = images.reshape(-1, 8, 8, 3)
    return encoder.apply(
      v,
      images,
      train=True,
      axis_name=axis_name,
      views=2,
      mutable=['batch_stats'],
    )

  out, new = jax.pmap(lambda x: apply(x, 'data'), axis_name='data', in_axes=1)(
    images
  )
  expected, expected_new = jax.jit(apply)(images)
  out = np.asarray(out).swapaxes(0, 1).reshape(expected.shape)
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-5),
    new,
    expected_new,
  )


@pytest.mark.parametrize(
  'fields, message',
  [
    (dict(name='resnet51'), "no encoder 'resnet51'.* did you mean 'resnet50'"),
    (dict(stem='vgg'), "'vgg' is unknown: imagenet, cifar, auto"),
    (dict(norm='layer'), "norm 'layer' is unknown"),
    (dict(dtype='float16'), "'float16' is unknown: float32, bfloat16"),
    (dict(width=0), 'width is 0'),
  ],
)
def test_unknown_fields_are_refused(fields, message):
  with pytest.raises(ValueError, match=message) as error:
    tiny.make_encoder(encoder_config(**fields), 224)
  assert '_tiny' not in str(error.value)


@pytest.mark.parametrize(
  ('init', 'scale'),
  # Variances: 1 / fan_in, of the official SimCLR; 2 / fan_out, of torchvision.
  [
    ('fan_in', lambda k, i, o: 1 / (k * i)),
    ('fan_out', lambda k, i, o: 2 / (k * o)),
  ],
)
def test_kernels_start_as_configured(init, scale):
  encoder = tiny.make_encoder(
    encoder_config(name='resnet50', kernel_init=init), 224
  )
  variables = jax.jit(functools.partial(encoder.init, train=False))(
    jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)
  )
  kernels = {
    jax.tree_util.keystr(path): x
    for path, x in jax.tree_util.tree_leaves_with_path(variables['params'])
    if x.ndim == 4
  }
  assert len(kernels) == 53
  for name, kernel in kernels.items():
    height, width, inputs, outputs = kernel.shape
    expected = math.sqrt(scale(height * width, inputs, outputs))
    error = abs(float(jnp.std(kernel)) / expected - 1)
    assert error < 5 / math.sqrt(kernel.size), name


def test_fan_out_is_torchvisions():
  """Deviations of torchvision 0.29.1's resnet50(), seed 0."""
  encoder = tiny.make_encoder(
    encoder_config(name='resnet50', kernel_init='fan_out'), 224
  )
  params = jax.jit(functools.partial(encoder.init, train=False))(
    jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)
  )['params']
  block = params['stage1_block1']
  for kernel, theirs in (
    (params['stem_conv'], 0.02507),
    (block['conv1'], 0.1758),
    (block['conv2'], 0.05832),
    (block['conv3'], 0.08891),
    (block['shortcut_conv'], 0.08862),
    (params['stage4_block3']['conv3'], 0.03125),
  ):
    np.testing.assert_allclose(jnp.std(kernel['kernel']), theirs, rtol=0.03)
