"""From a file to the pixels of one image, by Pillow, tifffile and NumPy.

All kinds of files are read here; `decode` reads the most frequent ones faster.
"""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from contrastive_jax.config import Error
from contrastive_jax.data import scaling, tiff

ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
PNG = b'\x89PNG\r\n\x1a\n'
PNG_DEPTH = 24  # place of the bit depth in the file
_JPEG = b'\xff\xd8'
TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # the last two are BigTIFF

# Where nothing says which value is white: the largest there is.
_WHITE = {'uint16': 65_535.0}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def of_file(
  encoded: bytes, channels: int, background: Sequence[float], maximum: float
) -> np.ndarray:
  """Returns the pixels of a file.

  Args:
    encoded: the file.
    channels: 1 or 3, or as many as the file has.
    background: what shows through alpha, a gray or RGB in [0, 1].
    maximum: the white of more than 8 bits; 0: they are rounded to 8.

  Returns:
    [height, width, channels]: float32 in [0, 1] with a maximum, else uint8.

  Raises:
    ValueError: it has other channels, or values that are no numbers. What
      Pillow and tifffile raise on damaged files, of many types, passes through.
  """
  if is_stored(encoded):
    image, alpha, how = stored(encoded)
    scaling.seen(image)  # refuses what are no numbers of an image
    white = maximum or _WHITE.get(image.dtype.name, 1.0)
    image = _opaque(scaling.scaled(image, white), alpha, background)
    image = image if maximum else np.round(255 * image).astype(np.uint8)
    image = turned(image, how)
  else:
    image = _by_pillow(encoded, background)
    image = scaling.scaled(image, 255) if maximum else image
  return with_channels(image, channels)


def is_stored(encoded: bytes) -> bool:
  """Returns whether `stored` reads a file, since Pillow loses something of it.

  Args:
    encoded: the file; of a PNG its beginning will do.
  """
  if encoded.startswith(PNG):
    return encoded[PNG_DEPTH : PNG_DEPTH + 1] == b'\x10'
  return encoded.startswith(TIFF) and not tiff.is_pillows(encoded)


def stored(encoded: bytes) -> tuple[np.ndarray, int, int]:
  """Returns the values of a PNG of 16 bits or a TIFF, as they are stored.

  Args:
    encoded: the file.

  Returns:
    [height, width, channels]; whether the last of these is alpha, as TIFF's tag
    338 (0: it is not, 1: colors are multiplied by it, 2: they are not); and
    EXIF's orientation.
  """
  if encoded.startswith(PNG):
    # TensorFlow takes seconds.
    from contrastive_jax.data.tensorflow_host import tf

    # Pillow keeps the upper 8 bits of colors.
    image = tf.io.decode_png(encoded, dtype=tf.uint16).numpy()
    return image, 2 * (image.shape[-1] in (2, 4)), orientation(encoded)
  image, layout = tiff.read(encoded)
  return image, layout.alpha, layout.orientation


def orientation(encoded: bytes) -> int:
  """Returns EXIF's orientation, 1 to 8; 1 where there is none.

  Args:
    encoded: the file.
  """
  if encoded.startswith(_JPEG) and b'Exif\0' not in encoded:
    return 1  # a tenth of the time
  try:
    with warnings.catch_warnings(action='ignore'):
      image = PIL.Image.open(io.BytesIO(encoded))
      # PngImageFile's own would decode the whole image.
      return int(PIL.Image.Image.getexif(image).get(ORIENTATION, 1))
  except Exception:  # Pillow raises all kinds on damaged headers
    return 1


def turned(image: np.ndarray, how: int) -> np.ndarray:
  """Returns an image as its EXIF data say that it is to be shown.

  Args:
    image: [height, width, channels].
    how: the orientation; of none of 2 to 8 it stays as it is.
  """
  if how in (5, 6, 7, 8):
    image = np.swapaxes(image, 0, 1)
  if how in (3, 4, 7, 8):
    image = image[::-1]
  if how in (2, 3, 6, 7):
    image = image[:, ::-1]
  return image


def with_channels(image: np.ndarray, channels: int | None) -> np.ndarray:
  """Returns images of as many channels: gray is repeated, color is luma.

  Args:
    image: [..., channels].
    channels: that are wanted; None: those there are.

  Raises:
    Error: from these there is no way to those.
  """
  found = image.shape[-1]
  if channels in (None, found):
    return image
  if (found, channels) == (1, 3):
    return np.repeat(image, 3, axis=-1)
  if (found, channels) == (3, 1):
    luma = image @ _LUMA
    if image.dtype.kind != 'f':
      luma = np.round(luma)
    return luma.astype(image.dtype)[..., None]
  raise Error(f'{found} channels, not {channels}')


def _by_pillow(encoded: bytes, background: Sequence[float]) -> np.ndarray:
  """Returns uint8 [height, width, 1 or 3]."""
  with warnings.catch_warnings(action='ignore'):
    image: Any = PIL.Image.open(io.BytesIO(encoded))
    image = PIL.ImageOps.exif_transpose(image)
  if has_alpha(image):
    rgb = [round(255 * x) for x in background] * 3
    behind = PIL.Image.new('RGBA', image.size, (*rgb[:3], 255))
    image = PIL.Image.alpha_composite(behind, image.convert('RGBA'))
  image = image if image.mode == 'L' else image.convert('RGB')
  array = np.asarray(image)
  return array[..., None] if array.ndim == 2 else array


def has_alpha(image: Any) -> bool:
  """Returns whether something shows through an image.

  Args:
    image: of Pillow, opened.
  """
  return image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La') or (
    'transparency' in image.info
  )


def _opaque(
  image: np.ndarray, alpha: int, background: Sequence[float]
) -> np.ndarray:
  if not alpha:
    return image
  colors, alpha_channel = image[..., :-1], image[..., -1:]
  if alpha == 2:
    colors = colors * alpha_channel
  behind = np.asarray(background, np.float32) * (1 - alpha_channel)
  return np.minimum(colors + behind, 1)
