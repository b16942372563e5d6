"""ResNet, post-activation, with the stride in the 3x3 convolution (v1.5)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax.config import Error
from contrastive_jax.models import convolution, normalization
from contrastive_jax.models.encoders import Encoder

# Block, and blocks in each stage.
_SIZES = {
  'resnet18': ('basic', (2, 2, 2, 2)),
  'resnet34': ('basic', (3, 4, 6, 3)),
  'resnet50': ('bottleneck', (3, 4, 6, 3)),
  'resnet101': ('bottleneck', (3, 4, 23, 3)),
  'resnet152': ('bottleneck', (3, 8, 36, 3)),
  'resnet200': ('bottleneck', (3, 24, 36, 3)),
  '_tiny': ('basic', (1, 1)),  # compiles fast, for tests
}
ENCODERS = tuple(_SIZES)

# Of the kernels. 'fan_in': a truncated normal of variance 1 / fan_in, as in
# the official SimCLR (tf2/resnet.py, VarianceScaling's defaults) and BYOL
# (Haiku's default). 'fan_out': He's 2 / fan_out, as in torchvision (resnet.py),
# lemniscate and SupContrast. Before a norm the scale of a kernel divides the
# learning rate of SGD by its square; LARS takes no notice.
_INITS = {
  'fan_in': nn.initializers.lecun_normal(),
  'fan_out': nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
}


class _Conv(nn.Module):
  """A convolution without bias, padded by (size - 1) / 2 on each side."""

  features: int
  size: int
  stride: int
  dtype: jnp.dtype
  kernel_init: str = 'fan_in'

  @nn.compact
  def __call__(self, x):
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param('kernel', _INITS[self.kernel_init], shape, jnp.float32)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    if self.size == 1:
      # XLA:CPU takes 1.5 to 3 times as long for it as a convolution; a product
      # is as good on TPU and GPU.
      return x[:, :: self.stride, :: self.stride] @ kernel[0, 0]
    return convolution.convolve(x, kernel, self.stride)


class _Block(nn.Module):
  """A residual block, basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1)."""

  kind: str
  width: int
  stride: int
  norm_group: int | None
  dtype: jnp.dtype
  zero_init_last_scale: bool
  kernel_init: str = 'fan_in'

  @nn.compact
  def __call__(self, x, train, axis_name=None, views=1):
    mode: Any = dict(train=train, axis_name=axis_name, views=views)
    # Kernel size, stride, channels.
    if self.kind == 'basic':
      layers = [(3, self.stride, self.width), (3, 1, self.width)]
    else:
      layers = [
        (1, 1, self.width),
        (3, self.stride, self.width),
        (1, 1, 4 * self.width),
      ]
    y = x
    for i, (size, stride, features) in enumerate(layers, start=1):
      y = _Conv(
        features, size, stride, self.dtype, self.kernel_init, name=f'conv{i}'
      )(y)
      last = i == len(layers)
      zero = last and self.zero_init_last_scale
      y = normalization.BatchNorm(
        group=self.norm_group,
        scale_init=nn.initializers.zeros if zero else nn.initializers.ones,
        name=f'norm{i}',
      )(y, **mode)
      if not last:
        y = nn.relu(y)
    if x.shape != y.shape:
      conv = _Conv(
        y.shape[-1],
        1,
        self.stride,
        self.dtype,
        self.kernel_init,
        name='shortcut_conv',
      )
      norm = normalization.BatchNorm(
        group=self.norm_group, name='shortcut_norm'
      )
      x = norm(conv(x), **mode)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """Images to features: a residual network without a classifier.

  All convolution kernels, 1x1 too, are stored as [height, width, in, out].

  Attributes:
    stage_sizes: Blocks in each stage; a stage has twice the channels and half
      the resolution of the one before.
    block: 'basic' or 'bottleneck'.
    width: Channels of the stem and the first stage; 64 is the standard.
    stem: 'imagenet' (7x7, stride 2, max-pool) or 'cifar' (3x3, stride 1).
    norm_group: `group` of `normalization.BatchNorm`.
    dtype: Of the computation; parameters and features are float32.
    zero_init_last_scale: Whether each block begins as its shortcut (Goyal et
      al. 2017, 1706.02677, section 5.1).
    kernel_init: 'fan_in' or 'fan_out', see `_INITS`.
    remat: Whether activations inside of blocks are computed again for the
      gradient: less memory, more time.
  """

  stage_sizes: Sequence[int]
  block: str
  width: int = 64
  stem: str = 'imagenet'
  norm_group: int | None = None
  dtype: jnp.dtype = jnp.float32
  zero_init_last_scale: bool = True
  kernel_init: str = 'fan_in'
  remat: bool = False

  @property
  def features(self) -> int:
    """Channels of the output."""
    last = self.width * 2 ** (len(self.stage_sizes) - 1)
    return last if self.block == 'basic' else 4 * last

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    train: bool,
    axis_name: str | None = None,
    views: int = 1,
    maps: bool = False,
  ) -> Any:
    """Computes the features of images, averaged over positions.

    Args:
      images: [b, H, W, C], floats; any number of channels.
      train: See `normalization.BatchNorm`, also for axis_name and views.
      axis_name: The mapped axis of the devices; None for one device.
      views: Equal consecutive segments of the batch axis.
      maps: Whether the features of each position are returned, too.

    Returns:
      [b, features], float32; with `maps`, and [b, rows, columns, features].

    Reference: He et al. 2015 (1512.03385); the stems: Chen et al. 2020
    (2002.05709), appendix B.9.
    """
    mode: Any = dict(train=train, axis_name=axis_name, views=views)
    size, stride = (7, 2) if self.stem == 'imagenet' else (3, 1)
    x = _Conv(
      self.width, size, stride, self.dtype, self.kernel_init, name='stem_conv'
    )(images)
    x = normalization.BatchNorm(group=self.norm_group, name='stem_norm')(
      x, **mode
    )
    x = nn.relu(x)
    if self.stem == 'imagenet':
      pad: Any = ((1, 1), (1, 1))  # Flax declares a str
      x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=pad)
    # What is no array is counted with the module as argument 0.
    block: Any = nn.remat(_Block, static_argnums=(2, 3, 4))
    block = block if self.remat else _Block
    for stage, count in enumerate(self.stage_sizes):
      for i in range(count):
        x = block(
          kind=self.block,
          width=self.width * 2**stage,
          stride=2 if stage > 0 and i == 0 else 1,
          norm_group=self.norm_group,
          dtype=self.dtype,
          zero_init_last_scale=self.zero_init_last_scale,
          kernel_init=self.kernel_init,
          name=f'stage{stage + 1}_block{i + 1}',
        )(x, train, axis_name, views)
    x = x.astype(jnp.float32)
    return (x.mean((1, 2)), x) if maps else x.mean((1, 2))


def stem_for(config: Any, image_size: int) -> str:
  """Chooses the stem.

  Args:
    config: The config's `encoder`; its `stem` is 'imagenet', 'cifar' or 'auto'.
    image_size: Pixels of a side.

  Returns:
    'imagenet' or 'cifar'; 'auto' is 'cifar' up to 64 pixels.

  Raises:
    ValueError: for an unknown stem.
  """
  if config.stem == 'auto':
    return 'cifar' if image_size <= 64 else 'imagenet'
  if config.stem not in ('imagenet', 'cifar'):
    raise Error(
      f"encoder.stem '{config.stem}' is unknown: imagenet, cifar, auto."
    )
  return config.stem


def make(config: Any, run: Any) -> Encoder:
  """Builds the encoder that a config describes.

  Args:
    config: The config's `encoder`.
    run: Its `input_shape` is (side, side, channels): the side is for the stem.

  Returns:
    A ResNet, whose parameters do not exist yet.

  Raises:
    ValueError: for an unknown stem, norm, dtype or remat, or a width below 1.
  """
  image_size = run.input_shape[0]
  block, stage_sizes = _SIZES[config.name]
  if config.dtype not in ('float32', 'bfloat16'):
    raise Error(
      f"encoder.dtype '{config.dtype}' is unknown: float32, bfloat16."
    )
  if config.remat not in ('none', 'blocks'):
    raise Error(
      f"encoder.remat '{config.remat}' is unknown to {config.name}: none,"
      ' blocks'
    )
  if config.kernel_init not in _INITS:
    raise Error(
      f"encoder.kernel_init '{config.kernel_init}' is unknown: "
      + ', '.join(_INITS)
    )
  if config.width < 1:
    raise Error(f'encoder.width is {config.width}: it must be at least 1.')
  stem = stem_for(config, image_size)
  module = ResNet(
    stage_sizes=stage_sizes,
    block=block,
    width=config.width,
    stem=stem,
    norm_group=normalization.parse_norm(config.norm),
    dtype=jnp.dtype(config.dtype),
    zero_init_last_scale=config.zero_init_last_scale,
    kernel_init=config.kernel_init,
    remat=config.remat == 'blocks',
  )
  return Encoder(
    module,
    module.features,
    module.norm_group,
    module.dtype,
    note=f'{stem} stem for {image_size} pixel images',
  )
