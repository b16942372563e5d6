"""Which patches of an image are masked, or visible: drawn for each example."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.models.positions import Grid

# Of a block: its patches, at least; its height / width is at least this, and at
# most the inverse; the tries to find a place for one.
_LEAST = 4
_ASPECT = 0.3
_TRIES = 10


def example_keys(
  seed: int, batch: dict[str, Any], view: int, what: keys.View
) -> jax.Array:
  """Returns a key for each example of a batch, of one purpose in one view.

  Args:
    seed: of the run.
    batch: 'epoch' and 'id' of it are used, int32 [b].
    view: 0, 1, ...
    what: the purpose.

  Returns:
    [b] keys, the same for any number of devices.
  """

  def of_one(epoch, example):
    return jax.random.fold_in(keys.example(seed, epoch, example, view), what)

  return jax.vmap(of_one)(batch['epoch'], batch['id'])


def blocks(key: jax.Array, grid: Grid, ratio: tuple[float, float]) -> jax.Array:
  """Masks a random share of an image's patches, in rectangles.

  Blocks are added until a number of patches, drawn evenly from a range, is
  masked, or ten blocks in a row find no place.

  Args:
    key: of the example.
    grid: patches in a column, and in a row.
    ratio: range of the share that is masked.

  Returns:
    bool [patches]; at most ratio[1] of them are True.

  Reference: BEiT (2106.08254), algorithm 1, as dinov2/data/masking.py has it.
  There the shares of a batch are spread evenly over the range, here each
  example draws its own.
  """
  rows, columns = grid
  low, high = (share * rows * columns for share in ratio)
  row, column = jnp.indices(grid)
  key, own = jax.random.split(key)
  wanted = jax.random.uniform(own, minval=low, maxval=high).astype(jnp.int32)

  def unfinished(state):
    _, mask, fails = state
    return (mask.sum() < wanted) & (fails < _TRIES)

  def try_one(state):
    key, mask, fails = state
    key, own = jax.random.split(key)
    unit = jax.random.uniform(own, (4,))
    left = wanted - mask.sum()
    area = _LEAST + unit[0] * (left - _LEAST)
    aspect = jnp.exp((2 * unit[1] - 1) * math.log(_ASPECT))
    height = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    width = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    top = jnp.floor(unit[2] * (rows - height + 1)).astype(jnp.int32)
    start = jnp.floor(unit[3] * (columns - width + 1)).astype(jnp.int32)
    block = (row >= top) & (row < top + height)
    block &= (column >= start) & (column < start + width)
    new = (block & ~mask).sum()
    fits = (height < rows) & (width < columns) & (0 < new) & (new <= left)
    return key, mask | (block & fits), jnp.where(fits, 0, fails + 1)

  # Made of what was drawn, so that under shard_map it varies as the loop's do.
  nothing = jnp.zeros(grid, bool) & (wanted < 0)
  _, mask, _ = jax.lax.while_loop(
    unfinished, try_one, (key, nothing, 0 * wanted)
  )
  return mask.reshape(-1)


def of_crops(
  seed: int,
  batch: dict[str, Any],
  grid: Grid,
  ratio: tuple[float, float],
  *,
  masked_crops: int,
) -> tuple[list[jax.Array], jax.Array]:
  """Draws masks of some of the two global crops of each example.

  Args:
    seed: of the run.
    batch: see `example_keys`.
    grid: see `blocks`.
    ratio: see `blocks`.
    masked_crops: how many of an example's two crops have masks: 1 (either, at
      random), 2 or 0.

  Returns:
    bool [b, patches] of each crop; and the numbers of an example's masked
    crops, int [masked_crops, b].
  """
  first = jnp.zeros(batch['id'].shape, jnp.int32)
  if masked_crops == 1:
    drawn = example_keys(seed, batch, 0, keys.View.MASKED_VIEW)
    first = jax.vmap(jax.random.bernoulli)(drawn).astype(jnp.int32)
  if not masked_crops:
    return [], first[None][:0]
  crops = jnp.stack([(first + i) % 2 for i in range(masked_crops)])
  masks = []
  for view in range(2):
    drawn = example_keys(seed, batch, view, keys.View.MASK)
    mask = jax.vmap(lambda key: blocks(key, grid, ratio))(drawn)
    masks.append(mask & jnp.any(crops == view, axis=0)[:, None])
  return masks, crops


def tokens_of(
  masks: Sequence[jax.Array],
  crops: jax.Array,
  maps: Sequence[Sequence[jax.Array]],
  most: int,
) -> tuple[list[jax.Array], jax.Array]:
  """Returns the tokens of masked patches, in arrays of one size for all.

  Args:
    masks: of both crops, of `of_crops`.
    crops: of `of_crops`, [n, b].
    maps: each of both crops [b, rows, columns, d].
    most: that an example can have.

  Returns:
    Of each of `maps` [n b, most, d]; and bool [n b, most], which of these are
    masked: they come first.
  """

  def of_masked(per_crop):
    """[2, b, ...] to [n b, ...]."""
    x = jnp.stack(per_crop)
    x = x[crops, jnp.arange(x.shape[1])]
    return x.reshape(-1, *x.shape[2:])

  mask = of_masked(masks)
  places = jnp.argsort(~mask, axis=1, stable=True)[:, :most]

  def tokens(per_crop):
    x = of_masked(per_crop)
    x = x.reshape(len(x), -1, x.shape[-1])
    return jnp.take_along_axis(x, places[..., None], axis=1)

  masked = jnp.take_along_axis(mask, places, axis=1)
  return [tokens(per_crop) for per_crop in maps], masked


def visible(key: jax.Array, patches: int, number: int) -> jax.Array:
  """Returns the patches of one image that stay, drawn evenly without blocks.

  Args:
    key: of the example.
    patches: that there are.
    number: that stay.

  Returns:
    int32 [patches]: a random order of them all; the first `number`, in their
    own order, are visible, and the rest are not.

  Reference: He et al. 2021 (MAE, 2111.06377), section 3.
  """
  order = jnp.argsort(jax.random.uniform(key, (patches,)))
  return jnp.concatenate([jnp.sort(order[:number]), jnp.sort(order[number:])])
