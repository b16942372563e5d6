"""ConvNeXt: convolutions in the shape of a transformer."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.models import blocks
from contrastive_jax.models.encoders import Encoder

# Blocks in each stage, channels of the first stage.
_SIZES = {
  'convnext_tiny': ((3, 3, 9, 3), 96),
  'convnext_small': ((3, 3, 27, 3), 96),
  'convnext_base': ((3, 3, 27, 3), 128),
  '_convnext_micro': ((2, 1), 8),  # for tests
}
ENCODERS = tuple(_SIZES)

_INIT = nn.initializers.normal(0.02)  # of all kernels
_conv = functools.partial(nn.Conv, padding='VALID', kernel_init=_INIT)


class _Block(nn.Module):
  """A 7x7 convolution of each channel, and a perceptron on each position."""

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, keep):
    # x: [b, h, w, C], float32 also if the branch is bfloat16. keep: [b], what
    # the branch is multiplied by; None is 1.
    size = x.shape[-1]
    same: Any = dict(padding=3, feature_group_count=size, dtype=self.dtype)
    y = _conv(size, (7, 7), **same, name='conv')(x)
    y = blocks.layer_norm(name='norm')(y)
    y = blocks.perceptron(size, self.dtype, _INIT, name='mlp')(y, train=False)
    init = nn.initializers.constant(1e-6)
    y *= self.param('scale', init, (size,), jnp.float32)
    return x + (y if keep is None else y * keep[:, None, None, None])


class ConvNeXt(nn.Module):
  """Images to features: a ConvNeXt without a classifier.

  Parameters, with the names of timm and torchvision; kernels are [height,
  width, in, out], PyTorch's with the axes (2, 3, 1, 0), and matrices [in, out]:

    ours                    timm                       torchvision
    stem_conv, stem_norm    stem.0, .1                 features.0.0, .1
    stage{s+1}_norm, _conv  stages.s.downsample.0, .1  features.{2s}.0, .1
    stage{s+1}_block{b+1}/  stages.s.blocks.b.         features.{2s+1}.b.
      conv, norm              conv_dw, norm              block.0, .2
      mlp/dense1, dense2      mlp.fc1, .fc2              block.3, .5
      scale [C]               gamma                      layer_scale [C, 1, 1]
    norm                    head.norm                  classifier.0

  Attributes:
    stage_sizes: Blocks in each stage, of twice the channels of the one before.
    width: Channels of the first stage.
    drop_path: Probability that the last block's branch is left out for an
      example; it grows linearly from 0 at the first block.
    dtype: Of convolutions and products; parameters, the sum over the blocks,
      norms and features are float32.
    remat: Whether blocks are computed again for the gradient: less memory.
  """

  stage_sizes: tuple[int, ...]
  width: int
  drop_path: float = 0.0
  dtype: jnp.dtype = jnp.float32
  remat: bool = False

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
      images: [b, H, W, C], floats; any number of channels. What is left of a
        side beyond a multiple of 4 is cut off, and likewise at every stage.
      train: Whether branches are dropped, nothing else; see `blocks.drop_path`,
        also for axis_name and views.
      axis_name: The mapped axis of the devices; None for one device.
      views: Equal consecutive segments of the batch axis.
      maps: Whether the features of each position are returned, too.

    Returns:
      [b, features], float32; with `maps`, and [b, rows, columns, features],
      each position through the last norm.

    Raises:
      Error: images of which no position would be left.

    Reference: Liu et al. 2022 (2201.03545), section 2 and appendix A.1.
    """
    height, width = images.shape[1:3]
    least = 4 * 2 ** (len(self.stage_sizes) - 1)
    if min(height, width) < least:
      raise Error(
        f'images of {height} x {width} pixels are too small for a ConvNeXt,'
        f' which takes those of at least {least} x {least}.'
      )
    rates = np.linspace(0, self.drop_path, sum(self.stage_sizes))
    mode: Any = dict(train=train, axis_name=axis_name, views=views)
    keep = iter(blocks.drop_path(self, rates, len(images), **mode))
    block: Any = nn.remat(_Block) if self.remat else _Block
    conv = functools.partial(_conv, dtype=self.dtype)
    x = conv(self.width, (4, 4), strides=4, name='stem_conv')(images)
    x = blocks.layer_norm(name='stem_norm')(x)
    for stage, count in enumerate(self.stage_sizes):
      name = f'stage{stage + 1}'
      if stage > 0:
        x = blocks.layer_norm(name=f'{name}_norm')(x)
        channels = self.width * 2**stage
        x = conv(channels, (2, 2), strides=2, name=f'{name}_conv')(x)
        x = x.astype(jnp.float32)
      for i in range(count):
        x = block(self.dtype, name=f'{name}_block{i + 1}')(x, next(keep))
    norm = blocks.layer_norm(name='norm')
    features = norm(x.mean((1, 2)))
    return (features, norm(x)) if maps else features


def make(config: Any, run: Any) -> Encoder:
  """Builds the encoder that a config describes.

  Args:
    config: The config's `encoder`: name, drop_path, dtype, remat.
    run: Not used.

  Returns:
    A ConvNeXt, whose parameters do not exist yet.

  Raises:
    Error: an unknown value.
  """
  del run
  blocks.check(config)
  stages, width = _SIZES[config.name]
  dtype, remat = jnp.dtype(config.dtype), config.remat == 'blocks'
  module = ConvNeXt(stages, width, config.drop_path, dtype, remat)
  return Encoder(module, width * 2 ** (len(stages) - 1), dtype=dtype)
