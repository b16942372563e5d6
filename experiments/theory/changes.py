"""What the study of invariance does to images: uint8 in, uint8 out."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from contrastive_jax.config import Config
from contrastive_jax.data import augment, crops

# Images that are changed at once.
_PART = 256

_LINEAR: Any = {'order': 1, 'mode': 'grid-constant', 'cval': 0.0}

# [n, side, side, channels] to the same.
Change = Callable[[np.ndarray], np.ndarray]


def rotated(images: np.ndarray, degrees: float) -> np.ndarray:
  """Returns images [n, side, side, channels] turned about their center."""
  return _moved(
    images,
    lambda x: ndimage.rotate(x, degrees, axes=(2, 1), reshape=False, **_LINEAR),
  )


def shifted(images: np.ndarray, pixels: int) -> np.ndarray:
  """Returns images moved to the right by whole pixels."""
  return _moved(
    images, lambda x: ndimage.shift(x, (0, 0, pixels, 0), **_LINEAR)
  )


def scaled(images: np.ndarray, factor: float) -> np.ndarray:
  """Returns images magnified about their center."""
  matrix = np.diag((1, 1 / factor, 1 / factor, 1))
  center = (images.shape[1] - 1) / 2 * np.array((0, 1, 1, 0))
  offset: Any = center - matrix @ center
  return _moved(
    images, lambda x: ndimage.affine_transform(x, matrix, offset, **_LINEAR)
  )


def _moved(images, move):
  """What comes in from outside has the median of the image's border."""
  border = np.concatenate(
    [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1
  )
  fill = np.median(border, axis=1).astype(np.float32)[:, None, None]
  return np.rint(move(images - fill) + fill).astype(np.uint8)


NUISANCES: dict[str, list[Change]] = {
  'rotation: 0, 90, 180, 270°': [
    lambda x, k=k: np.rot90(x, k, axes=(1, 2)) for k in range(4)
  ],
  'position: -3 to 3 pixels': [
    lambda x, k=k: shifted(x, k) for k in range(-3, 4)
  ],
  # Above 1: neither a border nor the sharpness of an image that is not
  # resampled gives them away.
  'scale: 1.1, 1.3, 1.6': [
    lambda x, k=k: scaled(x, k) for k in (1.1, 1.3, 1.6)
  ],
}


def of_run(config: Config) -> dict[str, tuple[Change, bool]]:
  """Returns what the invariance is measured to.

  Args:
    config: `augment` says how strong, and what the run was trained with; its
      seed draws.

  Returns:
    By name: the change, and whether it is one of the run's augmentations.
  """
  c = config.augment
  found: dict[str, tuple[Change, bool]] = {
    'crop': (lambda x: _cropped(x, config), True)
  }
  off: dict[str, Any] = {name: 0.0 for name in c.stages}
  off |= {'blur': (0.0,), 'solarize': (0.0,), 'local_crops': 0}
  for name in c.stages:
    certain = (1.0,) if isinstance(off[name], tuple) else 1.0
    alone = ConfigDict({**c.to_dict(), **off, name: certain})
    found[name] = (
      lambda x, alone=alone: _augmented(x, alone, config.seed),
      bool(np.any(np.asarray(c[name]) > 0)),
    )
  for degrees in (15, 45, 90):
    found[f'rotation, {degrees}°'] = (lambda x, a=degrees: rotated(x, a)), False
  found['translation, 1/8'] = (
    lambda x: shifted(x, max(1, round(x.shape[2] / 8))),
    False,
  )
  for factor in (0.75, 1.25):
    found[f'scale, {factor}'] = (lambda x, f=factor: scaled(x, f)), False
  return found


def resized(
  images: np.ndarray, boxes: np.ndarray, size: int, interpolation: str
) -> np.ndarray:
  """Returns boxes [n, 4] of images (top, left, height, width) at one size."""
  return np.concatenate(
    [
      crops.resize_many(
        images[i : i + _PART], boxes[i : i + _PART], size, interpolation
      ).numpy()
      for i in range(0, len(images), _PART)
    ]
  )


def varied(
  images: np.ndarray, variants: list[Change], seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Puts each image to one of some changes, each as often as the others.

  Args:
    images: uint8 [n, side, side, channels].
    variants: the changes.
    seed: of which.

  Returns:
    The images, and the number of each one's change, int32 [n].
  """
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.arange(len(images)) % len(variants))
  found = np.empty_like(images)
  for number, change in enumerate(variants):
    found[labels == number] = change(images[labels == number])
  return found, labels.astype(np.int32)


def _augmented(images, config, seed):
  """The stages of config, in [0, 1], rounded to what an encoder reads."""
  view = jax.jit(
    lambda x, ids: augment.augment_view(
      x, view=0, ids=ids, epochs=0 * ids, seed=seed, config=config
    )
  )
  ids = np.arange(len(images), dtype=np.int32)
  parts = range(0, len(images), _PART)
  found = [view(images[i : i + _PART], ids[i : i + _PART]) for i in parts]
  return np.round(255 * np.concatenate(found)).astype(np.uint8)


def _cropped(images, config):
  c, side = config.augment, images.shape[1]
  rng = np.random.default_rng(config.seed)
  uniform = rng.random((len(images), 22), np.float32)
  scale, ratio = tuple(c.crop_scale), tuple(c.crop_ratio)
  shape = (side, side)
  boxes = crops.random_box(uniform, shape, scale, ratio, c.crop_rule).numpy()
  return resized(images, boxes, side, config.data.interpolation)
