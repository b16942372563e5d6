"""Crops by three rules and resizing, against the libraries they are from."""

import math

import numpy as np
import PIL.Image
import pytest
import scipy.stats
import skimage.data

from contrastive_jax.data import crops
from contrastive_jax.data.tensorflow_host import tf

_RATIO = (3 / 4, 4 / 3)
_SHAPES = [(256, 256), (200, 600), (375, 500)]


def _uniform(rows: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).random((rows, 22), np.float32)


def _torchvision(uniform, shape, scale, ratio):
  """RandomResizedCrop.get_params, a loop as there, on given numbers."""
  height, width = shape
  for share, log_ratio in uniform[2:].reshape(10, 2).astype(float):
    area = height * width * (scale[0] + share * (scale[1] - scale[0]))
    low, high = np.log(ratio)
    aspect = math.exp(low + log_ratio * (high - low))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      top = int(uniform[0] * (height - h + 1))
      return top, int(uniform[1] * (width - w + 1)), h, w
  w, h = width, height
  if width / height < ratio[0]:
    h = round(w / ratio[0])
  elif width / height > ratio[1]:
    w = round(h * ratio[1])
  return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize('shape', [*_SHAPES, (30, 500), (500, 30)])
def test_torchvisions_rule(shape):
  uniform = _uniform(1000)
  found = crops.random_box(
    uniform, shape, (0.3, 1.0), _RATIO, 'torchvision'
  ).numpy()
  expected = [_torchvision(u, shape, (0.3, 1.0), _RATIO) for u in uniform]
  # float32 may round a side, and with it the place, to the other pixel.
  assert (found != expected).any(axis=1).mean() < 0.005
  assert (found[:, 2:] <= shape).all() and (found >= 0).all()
  h, w = found[:, 2], found[:, 3]
  assert (w / h < _RATIO[1] + 0.05).all() and (w / h > _RATIO[0] - 0.05).all()
  # One image, not a batch of draws for it.
  one = crops.random_box(uniform[0], shape, (0.3, 1.0), _RATIO, 'torchvision')
  np.testing.assert_array_equal(one, found[0])


@pytest.mark.parametrize('shape', _SHAPES)
def test_tensorflows_rule_is_that_of_its_operation(shape):
  """SimCLR's arguments; its least area of 0.08 and min_object_covered."""
  rows = 2000
  ours = crops.random_box(
    _uniform(rows), shape, (0.1, 1.0), _RATIO, 'tensorflow'
  ).numpy()

  def draw(seed):
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
      [*shape, 3],
      [[[0.0, 0.0, 1.0, 1.0]]],
      tf.stack([seed, 0]),
      min_object_covered=0.1,
      aspect_ratio_range=_RATIO,
      area_range=(0.08, 1.0),
      max_attempts=100,
      use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], size[:2]], 0)

  theirs = tf.map_fn(draw, tf.range(rows)).numpy()
  for what in (
    lambda b: b[:, 2] * b[:, 3] / (shape[0] * shape[1]),
    lambda b: b[:, 3] / b[:, 2],
    lambda b: b[:, 0] / shape[0],
    lambda b: b[:, 1] / shape[1],
  ):
    a, b = what(ours), what(theirs)
    assert scipy.stats.ks_2samp(a, b).pvalue > 1e-3
    assert abs(a.min() - b.min()) < 0.02 and abs(a.max() - b.max()) < 0.02


def test_the_rules_are_three_distributions():
  """Mean share of the area, scale (0.08, 1): of torchvision's own, measured."""

  def share(shape, rule):
    boxes = crops.random_box(_uniform(20_000), shape, (0.08, 1), _RATIO, rule)
    sides = boxes.numpy()[:, 2:]
    return sides.prod(axis=1).mean() / (shape[0] * shape[1])

  square, wide = (256, 256), (200, 600)
  assert abs(share(square, 'torchvision') - 0.479) < 0.01
  assert abs(share(wide, 'torchvision') - 0.224) < 0.01
  assert abs(share(square, 'tensorflow') - 0.409) < 0.01
  assert abs(share(square, 'byol') - 0.535) < 0.01
  assert abs(share(wide, 'byol') - 0.396) < 0.01


@pytest.mark.parametrize('rule', crops.RULES)
@pytest.mark.parametrize('shape', [(1, 1), (1, 300), (300, 1), (8, 8)])
def test_a_box_lies_within_the_image_however_small_it_is(rule, shape):
  boxes = crops.random_box(_uniform(500), shape, (0.05, 0.14), _RATIO, rule)
  top, left, h, w = boxes.numpy().T
  assert top.min() >= 0 and left.min() >= 0 and h.min() > 0 and w.min() > 0
  assert (top + h).max() <= shape[0] and (left + w).max() <= shape[1]


@pytest.mark.parametrize('interpolation', crops.INTERPOLATIONS)
@pytest.mark.parametrize(
  'box', [(0, 0, 350, 350), (31, 7, 300, 200), (5, 5, 60, 150), (3, 3, 9, 9)]
)
def test_antialiased_resizing_is_pillows(interpolation, box):
  image = skimage.data.coffee()
  top, left, h, w = box
  method = getattr(PIL.Image.Resampling, interpolation.upper())
  crop = PIL.Image.fromarray(image[top : top + h, left : left + w])
  pillow = np.asarray(crop.resize((96, 96), method)).astype(int)
  one = crops.resize(image, [box], [96], interpolation, True)[0].numpy()
  boxes = tf.constant([box])
  many = crops.resize_many(image[None], boxes, 96, interpolation, True).numpy()
  np.testing.assert_array_equal(one, pillow)
  gray = crops.resize(image[..., :1], [box], [96], interpolation, True)[0]
  np.testing.assert_array_equal(gray[..., 0], pillow[..., 0])
  # Pillow rounds between its two passes; TensorFlow has the other types.
  float_image = image.astype(np.float32) / 255
  floats = crops.resize(float_image, [box], [96], interpolation, True)[0]
  for other in (many[0].astype(int), 255 * floats.numpy()):
    np.testing.assert_allclose(other, pillow, atol=2.1)
    assert np.abs(other - pillow).mean() < 0.5
  plain = crops.resize(image, [box], [96], interpolation)[0].numpy().astype(int)
  if min(h, w) > 2 * 96:  # what it is for
    assert np.abs(plain - pillow).mean() > 1
