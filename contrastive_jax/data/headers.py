"""What the headers of image files tell: what decoding loses, what is no image.

Decoding (see `decode.decode_image`) drops alpha, keeps the upper 8 of 16 bits,
and does not turn an image as its EXIF data say. That may be right; a run says
in how many of some files it matters.
"""

import collections
import io
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from contrastive_jax.data import readers
from contrastive_jax.data.split import Source, Split

# Files of each split that are looked at: enough to find what one in a hundred
# has, and quick on a network drive.
_LOOKED_AT = 200
# Of these so many are read whole, to see how bright 16-bit images are.
_READ_WHOLE = 4
_ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_DEPTH = 24  # place of the bit depth in the file

_FINDINGS = {
  'alpha': 'have alpha, which is dropped: the colors below it show',
  'bits': (
    'hold 16-bit values, of which the upper 8 bits are kept: smaller ones, of '
    '10 or 12 bits say, come out nearly black'
  ),
  'dark': (
    'hold 16-bit values below 4,096, of which the upper 8 bits are kept: they '
    'come out nearly black, rescale them'
  ),
  'turned': 'are turned by EXIF data, which is ignored: turn their pixels',
  'cmyk': "are CMYK without Adobe's marker: their colors may be inverted",
  'animated': 'are animations, of which the first frame is taken',
  'broken': 'are no images, and will be passed over',
}


def notes(source: Source) -> tuple[str, ...]:
  """Returns a warning that counts what decoding loses, or nothing.

  Args:
    source: of images; those in memory are decoded already.
  """
  counts: collections.Counter[str] = collections.Counter()
  files = 0
  for split in (source.train, source.test):
    for file in _some(split) if split is not None else ():
      with file:
        counts.update(_findings(file, whole=counts['bits'] < _READ_WHOLE))
      files += 1
  if not counts:
    return ()
  counts['bits'] -= counts['dark']
  text = '; '.join(
    f'{counts[kind]:,} {sentence}'
    for kind, sentence in _FINDINGS.items()
    if counts[kind] > 0
  )
  return (f'warning: of {files:,} images that were looked at, {text}',)


def why_unreadable(split: Split, example_id: int) -> str:
  """Returns why an example cannot be read, in a few words.

  Args:
    split: with files, or encoded images.
    example_id: of an image that could not be read.
  """
  if not isinstance(split.reader, readers.RandomAccess):
    return 'damaged'  # a stream would have to be read up to it
  try:
    with _open(split, example_id) as file:
      encoded = file.read()
  except Exception as error:
    # TensorFlow's and the system's: whatever it is, it is the reason.
    return f'cannot be opened: {getattr(error, "strerror", None) or error}'
  if not encoded:
    return 'empty'
  try:
    with warnings.catch_warnings(action='ignore'):
      PIL.Image.open(io.BytesIO(encoded))
  except PIL.Image.DecompressionBombError as error:
    pixels = re.search(r'\d+', str(error))
    millions = int(pixels[0]) / 1e6 if pixels else 0
    return f'too large ({millions:,.0f} megapixels)'
  except Exception:  # Pillow raises all kinds on damaged headers
    return 'no image'
  return 'damaged'


def _some(split: Split) -> Iterator[BinaryIO]:
  """Yields some of a split's files, evenly spread, opened."""
  if isinstance(split.reader, readers.InMemory):
    return
  size = min(_LOOKED_AT, split.size)
  if isinstance(split.reader, readers.Stream):  # its first ones, read once
    split = Split('', size, split.channels, split.reader.head(size))
  for i in np.unique(np.linspace(0, split.size - 1, size).astype(int)):
    try:
      file = _open(split, int(i))
    except Exception:  # whatever it is: the pipeline passes over it, too
      file = io.BytesIO()
    yield file


def _open(split: Split, example_id: int) -> BinaryIO:
  if split.paths is not None:
    return open(split.paths[example_id], 'rb')
  reader: Any = split.reader
  return io.BytesIO(reader.read(np.int32(example_id))[0].numpy())


def _findings(file: BinaryIO, *, whole: bool) -> list[str]:
  """Returns which of `_FINDINGS` hold of a file; only headers are read."""
  head = file.read(_PNG_DEPTH + 1)
  file.seek(0, os.SEEK_SET)
  found = []
  try:
    with warnings.catch_warnings(action='ignore'):
      image = PIL.Image.open(file)
      # PngImageFile's own would decode the whole image.
      exif = PIL.Image.Image.getexif(image)
  except PIL.Image.DecompressionBombError:
    return []  # of WebP it is too much: the pipeline will say so
  except Exception:  # Pillow raises all kinds on damaged headers
    return ['broken']
  if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
    found.append('alpha')
  if head.startswith(_PNG) and head[_PNG_DEPTH] == 16:
    found.append('bits')
    file.seek(0, os.SEEK_SET)
    if whole and _is_dark(file.read()):
      found.append('dark')
  if exif.get(_ORIENTATION, 1) not in (0, 1):
    found.append('turned')
  if image.mode == 'CMYK' and 'adobe' not in image.info:
    found.append('cmyk')
  # Photographs of some cameras come with a second, smaller one (MPO).
  if image.format != 'MPO' and getattr(image, 'n_frames', 1) > 1:
    found.append('animated')
  return found


def _is_dark(encoded: bytes) -> bool:
  from contrastive_jax.data.decode import tf  # TensorFlow takes seconds

  try:
    values = tf.io.decode_png(encoded, dtype=tf.uint16).numpy()
  except tf.errors.InvalidArgumentError:
    return False
  return bool(values.max() < 4096)
