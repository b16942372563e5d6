"""What the header of an image file tells, and why a file is no image."""

import io
import os
import re
import warnings
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL.Image

from contrastive_jax.data import pixels, tiff
from contrastive_jax.data.split import Split

# Channels of what is read by Pillow; all others become RGB.
_GRAY = ('1', 'L', 'LA', 'La', 'I', 'I;16', 'I;16B', 'F')
# Values of 16-bit PNG files are read by TensorFlow.
_BEGINNING = 4096


class Header(NamedTuple):
  """What the header of an image file tells.

  Attributes:
    kind: of the file, as Pillow names it: 'PNG'.
    mode: of its colors, in words: 'palette'.
    channels: of the pixels, without alpha.
    depth: 'uint8', 'uint16' or 'float'; another type is not read.
    width: in pixels, as it is shown.
    height: in pixels, as it is shown.
    found: of `FINDINGS`.
  """

  kind: str
  mode: str
  channels: int
  depth: str
  width: int
  height: int
  found: tuple[str, ...] = ()


# What may be worth knowing of a file.
FINDINGS = ('alpha', 'turned', 'animated', 'cmyk')


def look(file: BinaryIO) -> Header | None:
  """Returns what the header of a file tells; None: it is no image.

  Args:
    file: opened; at most its header is read.
  """
  head = file.read(_BEGINNING)
  file.seek(0, os.SEEK_SET)
  try:
    with warnings.catch_warnings(action='ignore'):
      if head.startswith(pixels.TIFF) and not tiff.is_pillows(file):
        file.seek(0, os.SEEK_SET)
        return _of_tiff(file)
      file.seek(0, os.SEEK_SET)
      return _of_pillow(PIL.Image.open(file), head)
  except PIL.Image.DecompressionBombError:
    return Header('large file', 'any colors', 3, 'uint8', 0, 0)  # said later
  except Exception:  # Pillow and tifffile raise all kinds on damaged headers
    return None


def _of_tiff(file: BinaryIO) -> Header:
  layout = tiff.layout(file)
  height, width, channels = layout.shape
  if layout.orientation in (5, 6, 7, 8):
    height, width = width, height
  found = []
  if layout.alpha:
    found.append('alpha')
  if layout.orientation not in (0, 1):
    found.append('turned')
  kind = layout.dtype
  depth = 'float' if kind.kind == 'f' else kind.name
  mode = {1: 'gray', 3: 'RGB'}.get(channels, f'{channels}-channel')
  return Header('TIFF', mode, channels, depth, width, height, tuple(found))


def _of_pillow(image: Any, head: bytes) -> Header:
  width, height = image.size
  # PngImageFile's own would decode the whole image.
  how = PIL.Image.Image.getexif(image).get(pixels.ORIENTATION, 1)
  if how in (5, 6, 7, 8):
    height, width = width, height
  found = []
  if pixels.has_alpha(image):
    found.append('alpha')
  if how not in (0, 1):
    found.append('turned')
  # Photographs of some cameras come with a second, smaller one (MPO).
  if image.format != 'MPO' and getattr(image, 'n_frames', 1) > 1:
    found.append('animated')
  if (image.format, image.mode) == ('JPEG', 'CMYK') and (
    'adobe' not in image.info
  ):
    found.append('cmyk')
  channels = 1 if image.mode in _GRAY else 3
  mode = 'palette' if image.mode in ('P', 'PA') else image.mode
  mode = {1: 'gray', 3: 'RGB'}[channels] if mode not in _OTHER else mode
  deep = head.startswith(pixels.PNG) and pixels.is_stored(head)
  return Header(
    image.format or '',
    mode,
    channels,
    'uint16' if deep else 'uint8',
    width,
    height,
    tuple(found),
  )


_OTHER = ('palette', 'CMYK')


def why_unreadable(split: Split, example_id: int) -> str:
  """Returns why an example cannot be read, in a few words.

  Args:
    split: with files, or encoded images.
    example_id: of an image that could not be read.
  """
  try:
    with opened(split, example_id) as file:
      encoded = file.read()
  except Exception as error:
    # TensorFlow's and the system's: whatever it is, it is the reason.
    return f'cannot be opened: {getattr(error, "strerror", None) or error}'
  if not encoded:
    return 'empty'
  try:
    with warnings.catch_warnings(action='ignore'):
      if not pixels.is_stored(encoded):
        PIL.Image.open(io.BytesIO(encoded))
  except PIL.Image.DecompressionBombError as error:
    count = re.search(r'\d+', str(error))
    millions = int(count[0]) / 1e6 if count else 0
    return f'too large ({millions:,.0f} megapixels)'
  except Exception:  # Pillow raises all kinds on damaged headers
    return 'no image'
  reader = split.reader
  try:
    how = reader.channels, reader.background, reader.maximum
    pixels.of_file(encoded, *how)
  except (
    ValueError
  ) as error:  # Error too: channels and values that are not read
    return ' '.join(str(error).split())[:200]
  except Exception:  # Pillow and tifffile raise all kinds
    pass
  return 'damaged'


def opened(split: Split, example_id: int) -> BinaryIO:
  """Opens the file of an example.

  Args:
    split: with files, or encoded images.
    example_id: of the example.
  """
  if split.paths is not None:
    return open(split.paths[example_id], 'rb')
  reader: Any = split.reader
  return io.BytesIO(reader.read(np.int32(example_id))[0].numpy())
