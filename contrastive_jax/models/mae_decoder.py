"""MAE's decoder: from the tokens of visible patches to the pixels of all."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax.models import blocks, positions
from contrastive_jax.models.vit import Block


class Decoder(nn.Module):
  """A small ViT over visible patches' tokens and one token for all others.

  Attributes:
    width: Of a token; a multiple of 4 and of the heads.
    depth: Number of blocks.
    heads: Of the attention.
    grid: Patches in a column, and in a row.
    outputs: Values that a patch has.
    dtype: Of the matrix products.
  """

  width: int
  depth: int
  heads: int
  grid: positions.Grid
  outputs: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, features: jax.Array, tokens: jax.Array, order: jax.Array
  ) -> jax.Array:
    """Predicts the values of all patches.

    Args:
      features: [b, d], in the place of the class token.
      tokens: [b, n, d], of the visible patches.
      order: int [b, patches], the patches' numbers, visible ones first, in the
        order of `tokens`.

    Returns:
      float32 [b, patches, outputs], in the patches' own order.

    Reference: He et al. 2021 (2111.06377), section 3; mae models_mae.py. Its
    table of positions has the column first, ours the row.
    """
    rows, patches = order.shape
    init = nn.initializers.xavier_uniform()

    def linear(size, name):
      return nn.Dense(size, dtype=self.dtype, kernel_init=init, name=name)

    x = jnp.concatenate([features[:, None], tokens], axis=1)
    x = linear(self.width, 'embed')(x).astype(jnp.float32)
    mask_token = self.param(
      'mask_token', nn.initializers.normal(0.02), (1, self.width), jnp.float32
    )
    hidden = jnp.broadcast_to(
      mask_token, (rows, patches - tokens.shape[1], self.width)
    )
    shuffled = jnp.concatenate([x[:, 1:], hidden], axis=1)
    back = jnp.argsort(order, axis=1)
    everywhere = jnp.take_along_axis(shuffled, back[..., None], axis=1)
    x = jnp.concatenate([x[:, :1], everywhere], axis=1)
    x += jnp.asarray(positions.sincos(self.grid, self.width))
    for i in range(self.depth):
      x = Block(self.heads, 0.0, 'xavier', self.dtype, name=f'block{i + 1}')(
        x, None, None
      )
    x = blocks.layer_norm(name='norm')(x[:, 1:])
    return linear(self.outputs, 'pixels')(x).astype(jnp.float32)


def to_patches(images: jax.Array, grid: positions.Grid) -> jax.Array:
  """Cuts images into patches.

  Args:
    images: [b, H, W, C].
    grid: patches in a column, and in a row.

  Returns:
    [b, patches, values], the values by row, column and channel.
  """
  b, height, width, channels = images.shape
  rows, columns = grid
  size = (height // rows, width // columns)
  x = images.reshape(b, rows, size[0], columns, size[1], channels)
  return x.swapaxes(2, 3).reshape(b, rows * columns, math.prod(size) * channels)
