"""From encoded files to images, in TensorFlow on the host.

JPEG and plain PNG files are decoded by TensorFlow, all else by `pixels`.
"""

import functools
from collections.abc import Sequence

import numpy as np

from contrastive_jax.data import pixels
from contrastive_jax.data.tensorflow_host import tf

# A JPEG whose tables come first, or after the 18 bytes of JFIF, has no EXIF
# data before them.
_JPEG_TABLE, _AFTER = b'\xff\xdb', (2, 20)
# Of the first bytes of a PNG: 8 bits or less, gray, RGB or a palette, without
# transparency and EXIF data. RE2 takes any byte for \C.
_HEAD = 4096
_PNG = rb'\CPNG\C{20}[\x01\x02\x04\x08][\x00\x02\x03]\C*IDAT\C*'
_PNG_MORE = rb'\C*(tRNS|eXIf)\C*'


def decode_image(
  encoded: tf.Tensor,
  channels: int,
  background: Sequence[float] = (1.0,),
  maximum: float = 0.0,
) -> tf.Tensor:
  """Decodes JPEG, PNG, WebP, TIFF, GIF and BMP.

  The image is turned as its EXIF data say, what has alpha is put before the
  background, gray is repeated to RGB, palettes and CMYK become RGB, and of an
  animation the first frame counts.

  Args:
    encoded: string [].
    channels: 3, or 1 for ITU-R 601 luma; others only if the file has as many.
    background: a gray or RGB in [0, 1].
    maximum: the white of more than 8 bits, see `scaling`; 0: their upper 8 are
      kept.

  Returns:
    [height, width, channels]: float32 in [0, 1] with a maximum, else uint8.
  """

  def by_pillow():
    dtype = tf.float32 if maximum else tf.uint8
    read = functools.partial(
      _decode, channels=channels, background=background, maximum=maximum
    )
    return tf.numpy_function(read, [encoded], dtype, stateful=False)

  def by_libjpeg():
    # As Pillow decodes; the default, INTEGER_FAST, is off by a level or more.
    return tf.io.decode_jpeg(encoded, 3, dct_method='INTEGER_ACCURATE')

  def by_libjpeg_turned():
    # One call of Python, but only for a file that may have EXIF data.
    how = tf.numpy_function(
      lambda x: np.int32(pixels.orientation(_bytes(x))),
      [encoded],
      tf.int32,
      stateful=False,
    )
    image = by_libjpeg()
    return tf.cond(
      how > 1,
      lambda: tf.numpy_function(
        pixels.turned, [image, how], tf.uint8, stateful=False
      ),
      lambda: image,
    )

  def by_jpeg():
    first = [tf.strings.substr(encoded, place, 2) for place in _AFTER]
    is_plain = tf.reduce_any(tf.stack(first) == _JPEG_TABLE)
    return finished(tf.cond(is_plain, by_libjpeg, by_libjpeg_turned))

  def by_others():
    head = tf.strings.substr(encoded, 0, _HEAD)
    is_plain = tf.strings.regex_full_match(head, _PNG)
    has_more = tf.strings.regex_full_match(head, _PNG_MORE)
    return tf.cond(
      tf.logical_and(is_plain, tf.logical_not(has_more)),
      lambda: finished(tf.io.decode_png(encoded, channels=3)),
      by_pillow,
    )

  def finished(image):
    image = tf.ensure_shape(image, [None, None, 3])
    image = to_luma(image) if channels == 1 else image
    return scaled(image, 255) if maximum else image

  if channels not in (1, 3):
    return tf.ensure_shape(by_pillow(), [None, None, channels])
  is_jpeg = tf.strings.substr(encoded, 0, 2) == b'\xff\xd8'
  image = tf.cond(is_jpeg, by_jpeg, by_others)
  return tf.ensure_shape(image, [None, None, channels])


def _decode(encoded, channels, background, maximum) -> np.ndarray:
  return pixels.of_file(_bytes(encoded), channels, background, maximum)


def _bytes(encoded) -> bytes:
  # Bytes in a graph, an array without dimensions when called eagerly.
  return np.asarray(encoded, object).item()


def to_luma(image: tf.Tensor) -> tf.Tensor:
  """Returns uint8 [..., 1] of uint8 [..., 3]; gray stays what it is."""
  weights = tf.constant([0.299, 0.587, 0.114])
  luma = tf.reduce_sum(tf.cast(image, tf.float32) * weights, -1, keepdims=True)
  return clipped(luma, tf.uint8)


def scaled(images: tf.Tensor, white: float) -> tf.Tensor:
  """Returns images divided by their white: float32 in [0, 1]."""
  return clipped(tf.cast(images, tf.float32) / white, tf.float32)


def clipped(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  """Returns pixels of a type: bicubic overshoots.

  Args:
    x: float32.
    dtype: uint8, to which it rounds, or float32, whose white is 1.
  """
  most = 255.0 if dtype == tf.uint8 else 1.0
  # One kernel; tf.clip_by_value is two.
  x = tf.raw_ops.ClipByValue(t=x, clip_value_min=0.0, clip_value_max=most)
  return tf.cast(tf.round(x), tf.uint8) if dtype == tf.uint8 else x
