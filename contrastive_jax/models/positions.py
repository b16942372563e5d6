"""Positions of the patches of an image, and of images of another size."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.config import Error

Grid = tuple[int, int]  # patches in a column, and in a row


def grid_of(shape: Sequence[int], patch_size: int) -> Grid:
  """Counts the patches of an image.

  Args:
    shape: height and width, pixels; what follows does not matter.
    patch_size: pixels of a patch's side.

  Raises:
    Error: patches do not tile the image.
  """
  height, width = shape[:2]
  if height % patch_size or width % patch_size:
    near = [max(1, round(n / patch_size)) * patch_size for n in shape[:2]]
    raise Error(
      f'images of {height} x {width} pixels cannot be cut into patches of'
      f' {patch_size} x {patch_size} (encoder.patch_size); those of {near[0]} x'
      f' {near[1]} can.'
    )
  return height // patch_size, width // patch_size


def sincos(grid: Grid, width: int) -> np.ndarray:
  """Computes fixed positions: sines and cosines of the row and the column.

  Args:
    grid: patches in a column, and in a row.
    width: of a token, a multiple of 4.

  Returns:
    [1, 1 + patches, width], float32. The class token's row is zero. A patch's
    quarters are sin(row), cos(row), sin(column), cos(column), each with
    frequencies from 1 down to almost 1 / 10000.

  Reference: Chen et al. 2021 (MoCo v3, 2104.02057), section 5; the order is
  that of its official code. MAE's has the column first, and big_vision's other
  frequencies: their weights want their own table.
  """
  quarter = width // 4
  frequencies = 10_000.0 ** -(np.arange(quarter) / quarter)
  rows, columns = np.indices(grid).reshape(2, -1, 1) * frequencies
  table = np.concatenate(
    [np.sin(rows), np.cos(rows), np.sin(columns), np.cos(columns)], axis=1
  )
  table = np.concatenate([np.zeros((1, width)), table])
  return table[None].astype(np.float32)


@functools.cache
def bicubic_matrix(old: int, new: int) -> np.ndarray:
  """Builds the matrix of DINO's interpolation along one axis.

  DINO asks PyTorch for a scale of (new + 0.1) / old rather than for a size, so
  that rounding cannot lose a patch; this moves every sample point. PyTorch's
  bicubic kernel has a = -0.75 and, without antialiasing, the same four taps
  when it makes smaller. JAX's has a = -0.5.

  Args:
    old: patches along the axis of the table.
    new: patches along the axis of the images.

  Returns:
    [new, old], float32; rows sum to 1.

  Reference: DINO's vision_transformer.py, interpolate_pos_encoding; the kernel
  is that of Keys 1981, equation 4, with another a. Borders repeat.
  """
  a = -0.75
  points = (np.arange(new) + 0.5) * old / (new + 0.1) - 0.5
  first = np.floor(points).astype(int) - 1
  matrix = np.zeros((new, old))
  for tap in range(4):
    t = np.abs(points - (first + tap))
    inner = (a + 2) * t**3 - (a + 3) * t**2 + 1
    outer = a * (t**3 - 5 * t**2 + 8 * t - 4)
    at = np.clip(first + tap, 0, old - 1)
    np.add.at(matrix, (np.arange(new), at), np.where(t <= 1, inner, outer))
  return matrix.astype(np.float32)


def _dino(table: jax.Array, grid: Grid) -> jax.Array:
  height, width = table.shape[:2]
  return jnp.einsum(
    'ih,jw,hwd->ijd',
    bicubic_matrix(height, grid[0]),
    bicubic_matrix(width, grid[1]),
    table,
    precision=jax.lax.Precision.HIGHEST,
  )


def _antialiased(table: jax.Array, grid: Grid) -> jax.Array:
  shape = (*grid, table.shape[-1])
  return jax.image.resize(table, shape, 'cubic', antialias=True)


# Whose weights want which. DINOv2's, those without registers, want 'dino'.
# Hugging Face's DINOv2 is another function: 'dino' without the 0.1.
INTERPOLATIONS = {
  'dino': _dino,
  'dinov2_registers': _antialiased,
  'timm': _antialiased,
}


def resize(
  table: jax.Array, old: Grid, new: Grid, interpolation: str
) -> jax.Array:
  """Interpolates positions for images of another size.

  It is linear in the table, which so learns from every size.

  Args:
    table: [1, 1 + patches, width]; the row of the class token comes first, and
      stays as it is.
    old: the grid of the table.
    new: the grid of the images. The same one gives the table itself.
    interpolation: of `INTERPOLATIONS`.

  Returns:
    [1, 1 + patches, width].
  """
  if new == old:
    return table
  patches = table[0, 1:].reshape(*old, -1)
  patches = INTERPOLATIONS[interpolation](patches, new)
  patches = patches.reshape(1, math.prod(new), -1)
  return jnp.concatenate([table[:, :1], patches], axis=1)
