"""Vision transformer, pre-norm, as in DINO, DINOv2, MoCo v3 and timm."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.models import blocks, patches, positions
from contrastive_jax.models.encoders import Encoder

# Width, blocks, attention heads. MoCo v3's ViT-S has 12 heads.
_SIZES = {
  'vit_tiny': (192, 12, 3),
  'vit_small': (384, 12, 6),
  'vit_base': (768, 12, 12),
  'vit_large': (1024, 24, 16),
  '_vit_micro': (32, 2, 2),  # for tests
}
ENCODERS = tuple(_SIZES)

# Of the matrices. 'trunc_normal' is DINO's and timm's: PyTorch's trunc_normal_
# cuts at +-2, which is 100 deviations: nothing. 'xavier' is MoCo v3's, whose
# bounds take query, key and value for matrices of their own, as they are here.
_INITS = {
  'trunc_normal': nn.initializers.normal(0.02),
  'xavier': nn.initializers.xavier_uniform(),
}
_ALMOST_ZERO = nn.initializers.normal(1e-6)


class _Attention(nn.Module):
  """Each token takes means of all, weighted by softmax(q k / sqrt(width))."""

  heads: int
  kernel_init: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x):
    batch, tokens, width = x.shape
    init = _INITS[self.kernel_init]

    def linear(name):
      return nn.Dense(width, dtype=self.dtype, kernel_init=init, name=name)

    query, key, value = (
      linear(name)(x).reshape(batch, tokens, self.heads, -1)
      for name in ('query', 'key', 'value')
    )
    # Its softmax is float32: in bfloat16 it is three times nearer to float32
    # than Flax's attention.
    x = jax.nn.dot_product_attention(query, key, value)
    return linear('out')(x.reshape(batch, tokens, width))


class Block(nn.Module):
  """Attention over tokens, then a perceptron on each; both are added."""

  heads: int
  layer_scale: float
  kernel_init: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array, *keep: jax.Array | None) -> jax.Array:
    """Maps tokens to tokens.

    Args:
      x: [b, tokens, width], float32 also if the branches are bfloat16.
      *keep: [b] for each branch, what it is multiplied by; None is 1.

    Returns:
      Like x.
    """
    width, init = x.shape[-1], _INITS[self.kernel_init]

    def scaled(i, y):
      y = y.astype(jnp.float32)
      if self.layer_scale:
        first = nn.initializers.constant(self.layer_scale)
        y *= self.param(f'scale{i}', first, (width,), jnp.float32)
      return y if keep[i - 1] is None else y * keep[i - 1][:, None, None]

    attention = _Attention(
      self.heads, self.kernel_init, self.dtype, name='attn'
    )
    mlp = blocks.perceptron(width, self.dtype, init, name='mlp')
    x += scaled(1, attention(blocks.layer_norm(name='norm1')(x)))
    x += scaled(2, mlp(blocks.layer_norm(name='norm2')(x), train=False))
    return x


class ViT(nn.Module):
  """Images to features: a vision transformer without a classifier.

  Parameters, and the names of timm, DINO and DINOv2 where they differ:

    patch_embed/kernel [P, P, C, D], bias  patch_embed.proj, axes (2, 3, 1, 0)
    cls_token [1, 1, D]
    pos_embed [1, 1 + patches, D]          row 0 is the class token's
    registers [1, R, D]                    register_tokens; timm reg_token
    block{i+1}/                            blocks.i.
      norm1, norm2
      attn/query, key, value, out          thirds of attn.qkv, attn.proj
      mlp/dense1, dense2                   mlp.fc1, fc2
      scale1, scale2 [D]                   ls1.gamma, ls2.gamma
    norm                                   timm fc_norm, if the mean is pooled

  Matrices are [in, out], and biases vectors. The heads lie one after another in
  the outputs of query, key and value.

  Attributes:
    width: Of a token, D.
    depth: Number of blocks.
    heads: Of the attention; they divide the width.
    patch_size: Pixels of a patch's side.
    grid: Patches (in a column, in a row) that the table of positions is for.
      Images of another size get interpolated positions.
    pool: The feature is the normalized class 'token'; or the 'mean' of the
      patches' tokens, normalized after (timm's 'avg'; big_vision's mean is of
      normalized tokens). The class token is there in both.
    registers: Number of tokens beside the class token, without a position
      (Darcet et al. 2023, 2309.16588).
    positions: 'learned', or 'sincos' (`positions.sincos`, no parameter).
    interpolation: One of `positions.INTERPOLATIONS`.
    layer_scale: First factor of a branch's channels, then learned (Touvron et
      al. 2021, CaiT, 2103.17239, equation 4); 0: there are none.
    drop_path: Probability that the last block's branches are left out for an
      example; it grows linearly from 0 at the first. The two branches of a
      block are drawn apart.
    drop_path_uniform: Whether it is that of all blocks (DINOv2).
    kernel_init: 'trunc_normal' (DINO) or 'xavier' (MoCo v3).
    dtype: Of the matrix products; parameters, the sum over the blocks, norms,
      softmax and features are float32.
    remat: Whether activations inside of blocks are computed again for the
      gradient: less memory, more time.
  """

  width: int
  depth: int
  heads: int
  patch_size: int
  grid: tuple[int, int]
  pool: str = 'token'
  registers: int = 0
  positions: str = 'learned'
  interpolation: str = 'dino'
  layer_scale: float = 0.0
  drop_path: float = 0.0
  drop_path_uniform: bool = False
  kernel_init: str = 'trunc_normal'
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
    masked: jax.Array | None = None,
    mask_token: jax.Array | None = None,
    visible: jax.Array | None = None,
  ) -> Any:
    """Computes the features of images.

    Args:
      images: [b, H, W, C], floats; any number of channels.
      train: Whether branches are dropped, nothing else; see `blocks.drop_path`,
        also for axis_name and views.
      axis_name: The mapped axis of the devices; None for one device.
      views: Equal consecutive segments of the batch axis.
      maps: Whether the normalized tokens of patches are returned, too.
      masked: [b, patches], bool: patches that are replaced, before their
        positions are added.
      mask_token: [1, width], by what.
      visible: [b, n], int: the numbers of the patches that are looked at; None:
        all.

    Returns:
      [b, width], float32; with `maps`, and [b, rows, columns, width], or of
      `visible` ones [b, n, width], in their order.

    Raises:
      Error: patches do not tile the images.

    Reference: Dosovitskiy et al. 2020 (2010.11929), equations 1 to 4.
    """
    rows, init, dtype = len(images), self.kernel_init, self.dtype
    cells = patches.PatchEmbed(
      self.width,
      self.patch_size,
      init,
      dtype,
      name='patch_embed',
    )(images).astype(jnp.float32)
    if masked is not None and mask_token is not None:
      cells = jnp.where(masked[..., None], mask_token, cells)

    def tokens(name, first, count=1):
      shape = (1, count, self.width)
      learned = self.param(name, first, shape, jnp.float32)
      return jnp.broadcast_to(learned, (rows, count, self.width))

    # DINO draws it like the matrices; MoCo v3, DINOv2 and timm almost as zero.
    first = _ALMOST_ZERO if init == 'xavier' else _INITS[init]
    x = jnp.concatenate([tokens('cls_token', first), cells], axis=1)
    grid = positions.grid_of(images.shape[1:], self.patch_size)
    x += self._positions(grid)
    if visible is not None:
      seen = jnp.take_along_axis(x[:, 1:], visible[..., None], axis=1)
      x = jnp.concatenate([x[:, :1], seen], axis=1)
    if self.registers:
      registers = tokens('registers', _ALMOST_ZERO, self.registers)
      x = jnp.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)

    first_rate = self.drop_path if self.drop_path_uniform else 0
    rates = np.linspace(first_rate, self.drop_path, self.depth).repeat(2)
    mode: Any = dict(train=train, axis_name=axis_name, views=views)
    keep = blocks.drop_path(self, rates, rows, **mode)
    block: Any = nn.remat(Block) if self.remat else Block
    for i in range(self.depth):
      x = block(
        self.heads, self.layer_scale, init, dtype, name=f'block{i + 1}'
      )(x, *keep[2 * i : 2 * i + 2])

    norm = blocks.layer_norm(name='norm')
    cells = x[:, 1 + self.registers :]
    features = norm(cells.mean(1) if self.pool == 'mean' else x[:, 0])
    if not maps:
      return features
    shape = grid if visible is None else visible.shape[1:]
    return features, norm(cells).reshape(rows, *shape, -1)

  def _positions(self, grid: tuple[int, int]) -> jax.Array:
    if self.positions == 'sincos':
      table = jnp.asarray(positions.sincos(self.grid, self.width))
    else:
      shape = (1, 1 + math.prod(self.grid), self.width)
      init = nn.initializers.normal(0.02)
      table = self.param('pos_embed', init, shape, jnp.float32)
    return positions.resize(table, self.grid, grid, self.interpolation)


def patch_size_for(config: Any, image_size: int) -> int:
  """Chooses the size of a patch.

  Args:
    config: the config's `encoder`; its `patch_size` may be 0.
    image_size: pixels of a side.

  Returns:
    Pixels of a patch's side; for 0 the usual 16, 4 up to 64 pixels, and 2 below
    16, so that there are at least 16 patches.
  """
  if config.patch_size:
    return config.patch_size
  return 16 if image_size > 64 else 4 if image_size >= 16 else 2


def make(config: Any, run: Any) -> Encoder:
  """Builds the encoder that a config describes.

  Args:
    config: The config's `encoder`; its fields are the attributes of `ViT`,
      depth and heads (0: as many as are usual for the size), pretrained_size
      (pixels of a side that the table of positions is for; 0: the images' own)
      and remat ('none' or 'blocks').
    run: Its `input_shape` is (height, width, channels).

  Returns:
    A ViT, whose parameters do not exist yet.

  Raises:
    Error: an unknown value, patches that do not tile the images, or heads that
      do not divide the width.
  """
  width, usual_depth, usual_heads = _SIZES[config.name]
  blocks.check(
    config,
    pool=('token', 'mean'),
    positions=('learned', 'sincos'),
    interpolation=tuple(positions.INTERPOLATIONS),
    vit_init=tuple(_INITS),
  )
  patch_size = patch_size_for(config, run.input_shape[0])
  depth, heads = config.depth or usual_depth, config.heads or usual_heads
  if width % heads:
    raise Error(
      f'encoder.heads is {heads}, which does not divide the width of'
      f' {config.name}, {width}.'
    )
  grid = own = positions.grid_of(run.input_shape, patch_size)
  if config.pretrained_size:
    grid = positions.grid_of([config.pretrained_size] * 2, patch_size)
  module = ViT(
    width=width,
    depth=depth,
    heads=heads,
    patch_size=patch_size,
    grid=grid,
    pool=config.pool,
    registers=config.registers,
    positions=config.positions,
    interpolation=config.interpolation,
    layer_scale=config.layer_scale,
    drop_path=config.drop_path,
    drop_path_uniform=config.drop_path_uniform,
    kernel_init=config.vit_init,
    dtype=jnp.dtype(config.dtype),
    remat=config.remat == 'blocks',
  )
  note = (
    f'patches of {patch_size} x {patch_size} pixels: '
    f'{math.prod(own)} of an image'
  )
  return Encoder(
    module,
    features=width,
    dtype=module.dtype,
    note=note,
    patches=own,
  )
