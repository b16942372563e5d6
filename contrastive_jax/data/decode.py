"""From encoded files to uint8 images, in TensorFlow on the host."""

import contextlib
import ctypes
import io
import os

import numpy as np
import PIL.Image

# Its start-up lines are of no use to the reader of a training log.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
import tensorflow as tf  # noqa: E402

# For functions that map over data sets: theirs are written in TensorFlow's
# operations, so there is nothing to convert, and on Python 3.13 AutoGraph says
# so of each in five lines.
no_autograph = tf.autograph.experimental.do_not_convert


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

  def by_libjpeg():
    # As Pillow decodes; the default, INTEGER_FAST, is off by a level or more.
    return tf.io.decode_jpeg(encoded, 3, dct_method='INTEGER_ACCURATE')

  # TensorFlow's WebP decoder is newer than 2.18, and refuses alpha.
  is_webp = tf.logical_and(
    tf.equal(tf.strings.substr(encoded, 0, 4), 'RIFF'),
    tf.greater(tf.strings.length(encoded), 12),
  )
  is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 2), b'\xff\xd8')
  image = tf.cond(
    is_webp,
    by_pillow,
    lambda: tf.cond(is_jpeg, by_libjpeg, by_tensorflow),
  )
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


def to_uint8(x: tf.Tensor) -> tf.Tensor:
  """Rounds to uint8; bicubic overshoots, so it clips first."""
  # One kernel; tf.clip_by_value is two.
  x = tf.raw_ops.ClipByValue(t=x, clip_value_min=0.0, clip_value_max=255.0)
  return tf.cast(tf.round(x), tf.uint8)
