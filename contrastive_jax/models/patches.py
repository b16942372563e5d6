"""Images to tokens: the first layer of a ViT."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax.models import positions


def _uniform(bound: float) -> Any:
  """Initializes evenly within +-bound."""
  return lambda rng, shape, dtype: jax.random.uniform(
    rng, shape, dtype, -bound, bound
  )


class PatchEmbed(nn.Module):
  """One linear map of every patch.

  Attributes:
    width: Of a token.
    size: Pixels of a patch's side.
    kernel_init: 'trunc_normal' or 'xavier', see `vit.ViT`.
    dtype: Of the product.
  """

  width: int
  size: int
  kernel_init: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps [b, H, W, C] to [b, patches, width]."""
    size, channels = self.size, images.shape[-1]
    fan_in = size * size * channels
    if self.kernel_init == 'xavier':
      # Of the matrix of a patch; the fan_out of a convolution would be larger.
      kernel_init = _uniform(math.sqrt(6 / (fan_in + self.width)))
      bias_init = nn.initializers.zeros
    else:  # PyTorch's default of a convolution, which DINO and timm keep
      kernel_init = bias_init = _uniform(1 / math.sqrt(fan_in))
    shape = (size, size, channels, self.width)
    kernel = self.param('kernel', kernel_init, shape, jnp.float32)
    bias = self.param('bias', bias_init, (self.width,), jnp.float32)
    rows, columns = positions.grid_of(images.shape[1:], size)
    x = images.astype(self.dtype)
    x = x.reshape(-1, rows, size, columns, size, channels)
    x = x.swapaxes(2, 3).reshape(-1, rows * columns, fan_in)
    x = x @ kernel.reshape(fan_in, self.width).astype(self.dtype)
    return x + bias.astype(self.dtype)
