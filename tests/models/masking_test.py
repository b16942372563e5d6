import jax
import numpy as np
import pytest

from contrastive_jax import keys
from contrastive_jax.models import masking
from contrastive_jax.training.step import AXIS, make_mesh

MANY = jax.random.split(jax.random.key(0), 400)


def masks(grid, ratio=(0.1, 0.5)):
  draw = jax.jit(jax.vmap(lambda key: masking.blocks(key, grid, ratio)))
  return np.asarray(draw(MANY)).reshape(-1, *grid)


def test_shares_are_those_that_were_asked_for():
  """400 draws at 14 x 14; the last patches sometimes find no place."""
  counts = masks((14, 14)).sum((1, 2))
  assert counts.max() <= 98 and counts.min() >= 16
  # Of U(0.1, 0.5) of 196 patches, rounded down.
  assert abs(counts.mean() - 58.8 + 0.5) < 3 * 22.6 / np.sqrt(400) + 1
  assert len(np.unique(counts)) > 60


def test_what_is_masked_comes_in_rectangles():
  """A masked patch has masked neighbors far more often than by chance."""
  found = masks((14, 14))
  beside = found[:, :, 1:] & found[:, :, :-1]
  share = found.mean()
  assert beside.mean() > 1.7 * share**2


@pytest.mark.parametrize('grid', [(4, 4), (7, 7), (3, 9)])
def test_small_grids_have_masks_too(grid):
  found = masks(grid)
  counts = found.sum((1, 2))
  assert counts.max() <= int(0.5 * np.prod(grid))
  assert (counts > 0).mean() > 0.9
  # Each place is masked at times.
  assert found.any(axis=0).all()


def test_eight_devices_mask_what_one_masks():
  batch = {
    'epoch': np.full(32, 3, np.int32),
    'id': np.arange(100, 132, dtype=np.int32),
  }

  def draw(batch):
    drawn = masking.example_keys(7, batch, 1, keys.View.MASK)
    return jax.vmap(lambda key: masking.blocks(key, (6, 6), (0.1, 0.5)))(drawn)

  one = draw(batch)
  spec = jax.sharding.PartitionSpec(AXIS)
  eight = jax.jit(
    jax.shard_map(draw, mesh=make_mesh(), in_specs=spec, out_specs=spec)
  )(batch)
  np.testing.assert_array_equal(one, eight)
  other = draw(batch | {'epoch': np.full(32, 4, np.int32)})
  assert np.any(one != other)


@pytest.mark.parametrize('masked_crops', [1, 2])
def test_tokens_are_those_of_the_masked_patches(masked_crops):
  batch = {'epoch': np.zeros(12, np.int32), 'id': np.arange(12, dtype=np.int32)}
  masks, crops = masking.of_crops(
    0, batch, (4, 4), (0.1, 0.5), masked_crops=masked_crops
  )
  # A token says whose it is: example, crop, place.
  place = np.arange(16).reshape(4, 4)
  maps = [
    np.stack(
      [
        np.stack([np.full((4, 4), i), np.full((4, 4), crop), place], axis=-1)
        for i in range(12)
      ]
    )
    for crop in range(2)
  ]
  (tokens,), masked = masking.tokens_of(masks, crops, (maps,), 8)
  found = {tuple(map(int, t)) for t in np.asarray(tokens)[np.asarray(masked)]}
  expected = {
    (int(i), crop, int(p))
    for crop in range(2)
    for i, p in zip(*np.nonzero(np.asarray(masks[crop])), strict=True)
  }
  assert found == expected and len(found) == masked.sum()
  per_example = np.stack(masks).any(axis=2).sum(axis=0)
  assert np.all(per_example <= masked_crops) and per_example.max() > 0
  if masked_crops == 1:  # either of the two
    assert np.stack(masks).any(axis=2).any(axis=1).all()


def test_without_masked_crops_there_are_no_masks():
  batch = {'epoch': np.zeros(4, np.int32), 'id': np.arange(4, dtype=np.int32)}
  masks, crops = masking.of_crops(0, batch, (4, 4), (0.1, 0.5), masked_crops=0)
  assert masks == [] and crops.shape == (0, 4)


def test_visible_patches_are_a_random_part_in_order():
  orders = np.asarray(jax.vmap(lambda key: masking.visible(key, 16, 4))(MANY))
  np.testing.assert_array_equal(np.sort(orders, axis=1), [range(16)] * 400)
  seen = orders[:, :4]
  assert np.all(np.diff(seen, axis=1) > 0)
  # Each patch is seen in a quarter of the draws: 100 of 400, +- 8.7.
  counts = np.bincount(seen.ravel(), minlength=16)
  assert np.all(np.abs(counts - 100) < 5 * 8.7)
