"""Crop boxes and resizing, in TensorFlow on the host.

The random crop is BYOL's (2006.07733, appendix B): one draw of area share
~ U(scale) and log(width / height) ~ U(log ratio), sides clipped to the image,
position uniform. SimCLR and torchvision draw again instead of clipping; one
draw needs no loop, and is the same work for every image.
"""

import math
import os

import numpy as np

# Its start-up lines are of no use to the reader of a training log.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
import tensorflow as tf  # noqa: E402


def hide_accelerators() -> None:
  """Keeps TensorFlow off the accelerator, whose memory belongs to JAX."""
  for kind in ('GPU', 'TPU'):
    try:
      tf.config.set_visible_devices([], kind)
    except RuntimeError:
      # Too late: someone else has used TensorFlow before. That harms only
      # where it did see a device.
      if tf.config.get_visible_devices(kind):
        raise


hide_accelerators()


def label_table(split):
  """Returns int32 [size] as a tensor; -1 where there are no labels."""
  if split.labels is None:
    return tf.constant(np.full(split.size, -1, np.int32))
  return tf.constant(split.labels)


def draws(seed, epoch, example_id, view):
  """Returns 4 uniform numbers that hang on the four arguments only."""
  key = tf.stack(
    [
      tf.constant(seed * 256 + view, tf.int64),
      tf.bitwise.left_shift(tf.cast(epoch, tf.int64), np.int64(32))
      + tf.cast(example_id, tf.int64),
    ]
  )
  return tf.random.stateless_uniform([4], key)


def random_box(uniform, shape, scale, ratio):
  """Returns crop boxes (top, left, height, width), int32 [..., 4].

  Args:
    uniform: float32 [..., 4] in [0, 1).
    shape: int32 [2], height and width of the image.
    scale: range of the share of the image's area.
    ratio: range of width / height.
  """
  height, width = (tf.cast(shape[i], tf.float32) for i in (0, 1))
  area = height * width * _between(uniform[..., 0], *scale)
  log_ratio = _between(uniform[..., 1], math.log(ratio[0]), math.log(ratio[1]))
  root = tf.exp(0.5 * log_ratio)
  h = tf.clip_by_value(tf.round(tf.sqrt(area) / root), 1.0, height)
  w = tf.clip_by_value(tf.round(tf.sqrt(area) * root), 1.0, width)
  top = tf.minimum(tf.floor(uniform[..., 2] * (height - h + 1)), height - h)
  left = tf.minimum(tf.floor(uniform[..., 3] * (width - w + 1)), width - w)
  return tf.cast(tf.stack([top, left, h, w], axis=-1), tf.int32)


def central_box(shape, size, crop):
  """Returns the central square, int32 [4]; all of a size x size image."""
  side = tf.minimum(shape[0], shape[1])
  inner = tf.cast(tf.round(crop * tf.cast(side, tf.float32)), tf.int32)
  whole = tf.logical_and(shape[0] == size, shape[1] == size)
  inner = tf.where(whole, side, inner)
  top, left = (shape[0] - inner) // 2, (shape[1] - inner) // 2
  return tf.stack([top, left, inner, inner])


def resize_many(images, boxes, size, interpolation):
  """Crops and resizes a batch of small images, as two matrix products.

  Args:
    images: uint8 [b, height, width, channels].
    boxes: int32 [b, 4] (top, left, height, width).
    size: side of the result, pixels.
    interpolation: 'bicubic' or 'bilinear'.

  Returns:
    uint8 [b, size, size, channels].
  """
  shape = tf.shape(images)
  rows = _weights(boxes[:, 0], boxes[:, 2], shape[1], size, interpolation)
  columns = _weights(boxes[:, 1], boxes[:, 3], shape[2], size, interpolation)
  x = tf.einsum('bsh,bhwc->bswc', rows, tf.cast(images, tf.float32))
  x = tf.einsum('btw,bswc->bstc', columns, x)
  return to_uint8(x)


def to_uint8(x):
  """Rounds; bicubic overshoots, so it clips first."""
  return tf.cast(tf.round(tf.clip_by_value(x, 0.0, 255.0)), tf.uint8)


def _between(uniform, low, high):
  return low + uniform * (high - low)


def _weights(start, length, n, size, interpolation):
  """Returns [b, size, n]: how much pixel j counts in output pixel i.

  Half-pixel centres; pixels outside the crop count nothing, and the rest is
  scaled to sum to one, as `tf.image.resize` does at the border of an image.
  """
  start = tf.cast(start, tf.float32)[:, None, None]
  length = tf.cast(length, tf.float32)[:, None, None]
  i = tf.range(size, dtype=tf.float32)[None, :, None]
  j = tf.range(tf.cast(n, tf.float32))[None, None, :]
  d = tf.abs(start + (i + 0.5) * length / size - 0.5 - j)
  if interpolation == 'bilinear':
    w = tf.maximum(1.0 - d, 0.0)
  else:  # Keys' cubic, a = -0.5
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    w = tf.where(d < 1.0, near, tf.where(d < 2.0, far, 0.0))
  w = tf.where((j >= start) & (j < start + length), w, 0.0)
  return w / tf.reduce_sum(w, axis=-1, keepdims=True)
