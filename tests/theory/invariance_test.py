"""What is done to images, and how much of it features show."""

import numpy as np
import pytest

from contrastive_jax.training import build
from experiments.theory import changes, invariance
from tests import tiny

IMAGES = np.random.default_rng(0).integers(
  0, 256, size=(6, 8, 8, 1), dtype=np.uint8
)


def test_invariance_is_1_to_nothing_and_0_to_another_image():
  z = np.random.default_rng(0).normal(1.0, 1.0, size=(7, 5))
  assert invariance.invariance(z, 3 * z) == pytest.approx(np.ones(7))
  others = [
    invariance.invariance(z, np.roll(z, k, axis=0)) for k in range(1, 7)
  ]
  assert np.mean(others) == pytest.approx(0, abs=1e-12)
  with pytest.raises(ValueError, match='7 images all have one direction'):
    invariance.invariance(np.ones((7, 5)), z)


def test_what_is_done_to_images():
  turned = changes.rotated(IMAGES, 90)
  assert any(
    np.array_equal(turned, np.rot90(IMAGES, k, axes=(1, 2))) for k in (1, 3)
  )
  moved = changes.shifted(IMAGES, 2)
  np.testing.assert_array_equal(moved[:, :, 2:], IMAGES[:, :, :-2])
  border = np.concatenate(
    [
      *IMAGES[:, (0, -1)].swapaxes(0, 1),
      *np.moveaxis(IMAGES[:, :, (0, -1)], 2, 0),
    ],
    axis=1,
  )
  fill = np.median(border, axis=1)[:, None, None]
  assert np.abs(moved[:, :, :2] - fill).max() <= 0.5
  np.testing.assert_array_equal(changes.scaled(IMAGES, 1.0), IMAGES)
  square = np.zeros((1, 8, 8, 1), np.uint8)
  square[:, 3:5, 3:5] = 200
  areas = [int(np.sum(changes.scaled(square, f) > 99)) for f in (1, 2)]
  assert areas == [4, 16]


def test_each_change_as_often_as_the_others():
  found, labels = changes.varied(IMAGES, [lambda x: x, lambda x: 255 - x], 0)
  assert np.bincount(labels).tolist() == [3, 3]
  for image, label, before in zip(found, labels, IMAGES, strict=True):
    np.testing.assert_array_equal(image, 255 - before if label else before)


def test_augmentations_one_by_one():
  found = changes.of_run(build.build(tiny.config()).config)
  assert {
    name for name, (_, trained_with) in found.items() if trained_with
  } == {
    'crop',
    'flip',
    'jitter',
    'grayscale',
  }
  flip, _ = found['flip']
  np.testing.assert_array_equal(flip(IMAGES), IMAGES[:, :, ::-1])
  gray, _ = found['grayscale']  # of images that are gray already
  np.testing.assert_array_equal(gray(IMAGES), IMAGES)
  crop, _ = found['crop']
  assert crop(IMAGES).shape == IMAGES.shape
  assert not np.array_equal(crop(IMAGES), IMAGES)
