"""From encoded files to uint8 crops, in TensorFlow on the host.

The random crop is BYOL's (2006.07733, appendix B): one draw of the share of
the area ~ U(scale) and of log(width / height) ~ U(log ratio), sides clipped to
the image, a uniform place. SimCLR and torchvision draw again instead of
clipping; one draw needs no loop and no fallback, and holds for every image.

Resizing has half-pixel centers and no antialiasing, like the official SimCLR
and BYOL pipelines: the crop is cut out, then resized, so that pixels outside
the crop count nothing.
"""

import contextlib
import ctypes
import io
import math
import os

import numpy as np
import PIL.Image

# Its start-up lines are of no use to the reader of a training log.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
import tensorflow as tf  # noqa: E402

INTERPOLATIONS = ('bicubic', 'bilinear')
# For functions that map over data sets: theirs are written in TensorFlow's
# operations, so there is nothing to convert, and on Python 3.13 AutoGraph says
# so of each in five lines.
no_autograph = tf.autograph.experimental.do_not_convert
_MAX_VIEWS = 256


def _hide_accelerators() -> None:
  """Keeps TensorFlow off the accelerator, whose memory belongs to JAX."""
  for kind in ('GPU', 'TPU'):
    try:
      tf.config.set_visible_devices([], kind)
    except RuntimeError:
      # TensorFlow was in use before us: harmless where it sees no device.
      if tf.config.get_visible_devices(kind):
        raise


def _keep_freed_memory() -> None:
  """Lets glibc's malloc keep freed buffers instead of unmapping them.

  Every image passes through several buffers of a megabyte. With glibc's
  defaults each of them is mapped anew: 1,300 page faults and half of the time
  for an image of 500 x 375 pixels (260 images/s on one core instead of 600).
  """
  mmap_threshold, top_pad = -3, -2  # M_... in malloc.h
  # Other C libraries have no mallopt.
  with contextlib.suppress(AttributeError, OSError, TypeError):
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(mmap_threshold, 32 * 2**20)
    mallopt(top_pad, 64 * 2**20)


_hide_accelerators()
_keep_freed_memory()


def decode_image(encoded: tf.Tensor, channels: int) -> tf.Tensor:
  """Decodes JPEG, PNG, WebP (or GIF, BMP under such a name).

  Gray is repeated to RGB, palettes and CMYK become RGB, 16 bits keep their
  upper 8, alpha is dropped (as PIL's `convert('RGB')` does), of an animation
  the first frame counts, and EXIF orientation is ignored.

  Args:
    encoded: string [].
    channels: 3, or 1 for ITU-R 601 luma.

  Returns:
    uint8 [height, width, channels].
  """

  def by_pillow():
    return tf.numpy_function(_decode_webp, [encoded], tf.uint8, stateful=False)

  def by_tensorflow():
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)

  # TensorFlow's WebP decoder is newer than 2.18, and refuses alpha.
  is_webp = tf.logical_and(
    tf.equal(tf.strings.substr(encoded, 0, 4), 'RIFF'),
    tf.greater(tf.strings.length(encoded), 12),
  )
  image = tf.cond(is_webp, by_pillow, by_tensorflow)
  image = tf.ensure_shape(image, [None, None, 3])
  return to_luma(image) if channels == 1 else image


def _decode_webp(encoded) -> np.ndarray:
  # Bytes in a graph, an array without dimensions when called eagerly.
  encoded = np.asarray(encoded, object).item()
  with PIL.Image.open(io.BytesIO(encoded)) as image:
    return np.asarray(image.convert('RGB'))


def to_luma(image: tf.Tensor) -> tf.Tensor:
  """Returns uint8 [..., 1] of uint8 [..., 3]; gray stays what it is."""
  weights = tf.constant([0.299, 0.587, 0.114])
  luma = tf.reduce_sum(tf.cast(image, tf.float32) * weights, -1, keepdims=True)
  return to_uint8(luma)


def draws(seed: int, view: int, example_id, epoch) -> tf.Tensor:
  """Returns 4 uniform numbers that depend on the four arguments only.

  Args:
    seed: Python int, 0 <= seed < 2**55.
    view: Python int.
    example_id: int32 [].
    epoch: int32 [].

  Returns:
    float32 [4] in [0, 1).
  """
  high = tf.bitwise.left_shift(tf.cast(epoch, tf.int64), np.int64(32))
  low = tf.constant(seed * _MAX_VIEWS + view, tf.int64)
  key = tf.stack([low, high + tf.cast(example_id, tf.int64)])
  return tf.random.stateless_uniform([4], key)


def random_box(uniform, shape, scale, ratio) -> tf.Tensor:
  """Returns a random crop box, or a batch of them.

  Args:
    uniform: float32 [..., 4] in [0, 1).
    shape: int32 [2], height and width of the image, pixels.
    scale: range of the share of the image's area.
    ratio: range of width / height.

  Returns:
    int32 [..., 4]: top, left, height, width, pixels.

  Reference: module docstring.
  """
  height, width = (tf.cast(shape[i], tf.float32) for i in (0, 1))
  share = scale[0] + uniform[..., 0] * (scale[1] - scale[0])
  low, high = math.log(ratio[0]), math.log(ratio[1])
  root_ratio = tf.exp(0.5 * (low + uniform[..., 1] * (high - low)))
  side = tf.sqrt(height * width * share)
  h = tf.clip_by_value(tf.round(side / root_ratio), 1.0, height)
  w = tf.clip_by_value(tf.round(side * root_ratio), 1.0, width)
  # A uniform number just below 1 may round up to the sum: hence the minimum.
  top = tf.minimum(tf.floor(uniform[..., 2] * (height - h + 1)), height - h)
  left = tf.minimum(tf.floor(uniform[..., 3] * (width - w + 1)), width - w)
  return tf.cast(tf.stack([top, left, h, w], axis=-1), tf.int32)


def central_box(shape, size: int, crop: float) -> tf.Tensor:
  """Returns the central square of `crop` times the shorter side.

  An image that is size x size already is taken whole.

  Args:
    shape: int32 [2], height and width of the image, pixels.
    size: side of the result, pixels.
    crop: share of the shorter side, in (0, 1].

  Returns:
    int32 [4]: top, left, height, width, pixels.
  """
  shorter = tf.minimum(shape[0], shape[1])
  inner = tf.round(crop * tf.cast(shorter, tf.float32))
  inner = tf.maximum(tf.cast(inner, tf.int32), 1)
  whole = tf.logical_and(tf.equal(shape[0], size), tf.equal(shape[1], size))
  inner = tf.where(whole, shorter, inner)
  return tf.stack(
    [(shape[0] - inner) // 2, (shape[1] - inner) // 2, inner, inner]
  )


def resize_one(image, box, size: int, interpolation: str) -> tf.Tensor:
  """Crops and resizes one image.

  Args:
    image: uint8 [height, width, channels].
    box: int32 [4]: top, left, height, width, pixels.
    size: side of the result, pixels.
    interpolation: 'bicubic' or 'bilinear'.

  Returns:
    uint8 [size, size, channels].
  """
  crop = image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
  resize = {
    'bicubic': tf.raw_ops.ResizeBicubic,
    'bilinear': tf.raw_ops.ResizeBilinear,
  }[interpolation]
  # On uint8 these kernels take almost twice as long as on floats.
  crop = tf.cast(crop, tf.float32)[None]
  return to_uint8(
    resize(images=crop, size=[size, size], half_pixel_centers=True)[0]
  )


def resize_many(images, boxes, size: int, interpolation: str) -> tf.Tensor:
  """Crops and resizes a batch of small images, as two matrix products.

  The same result as `resize_one` up to rounding, at a tenth of the cost for
  28 x 28 pixels; the cost grows with the third power of the side.

  Args:
    images: uint8 [b, height, width, channels].
    boxes: int32 [b, 4]: top, left, height, width, pixels.
    size: side of the result, pixels.
    interpolation: 'bicubic' or 'bilinear'.

  Returns:
    uint8 [b, size, size, channels].
  """
  shape = tf.shape(images)
  rows = _weights(boxes[:, 0], boxes[:, 2], shape[1], size, interpolation)
  columns = _weights(boxes[:, 1], boxes[:, 3], shape[2], size, interpolation)
  x = tf.einsum('bsh,bhwc->bswc', rows, tf.cast(images, tf.float32))
  return to_uint8(tf.einsum('btw,bswc->bstc', columns, x))


def to_uint8(x: tf.Tensor) -> tf.Tensor:
  """Rounds to uint8; bicubic overshoots, so it clips first."""
  # One kernel; tf.clip_by_value is two.
  x = tf.raw_ops.ClipByValue(t=x, clip_value_min=0.0, clip_value_max=255.0)
  return tf.cast(tf.round(x), tf.uint8)


def _weights(start, length, n, size, interpolation) -> tf.Tensor:
  """Returns [b, size, n]: how much pixel j counts in output pixel i.

  Pixels outside the crop count nothing, and the rest is scaled to sum to
  one, as TensorFlow's resize does at the border of an image.
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
