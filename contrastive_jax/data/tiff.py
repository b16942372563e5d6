"""TIFF files: which of their numbers are the channels of one image.

Pillow reads those of 8 bits in at most four known channels, of any compression;
it keeps the upper half of 16-bit colors, drops a fourth band, and refuses more.
These are read by tifffile, which takes the numbers as they are stored.

The first page counts, and of several series the first. Pages are channels only
where the file says so (axis C), or where tifffile wrote a single array of three
dimensions: then the smallest of its ends are the channels, as of [5, 300, 400]
or [300, 400, 5].
"""

import io
import logging
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL.Image
import tifffile

# An array whose smallest end is larger is a stack of pages.
_MOST_CHANNELS = 32
_PILLOW_MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'LAB')
# Gray: what Pillow gives is what is stored, however it is compressed.
_PILLOW_DEEP = ('I;16', 'I;16B', 'F')
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # tag 262
_ALPHA = (1, 2)  # tag 338, see `Layout`


# What it finds odd in tags is of no use to the reader of a training log.
logging.getLogger('tifffile').setLevel(logging.CRITICAL)


class Layout(NamedTuple):
  """What is read of a file.

  Attributes:
    shape: height, width and channels, without alpha.
    dtype: of the values as they are stored.
    alpha: 0, or of a channel after these its tag 338 (see `pixels.stored`).
    axes: of what is read: 'YX', 'YXC' or 'CYX'.
    whole: whether it is the whole series, not the first page.
    photometric: tag 262.
    orientation: tag 274.
  """

  shape: tuple[int, int, int]
  dtype: np.dtype
  alpha: int
  axes: str
  whole: bool
  photometric: int
  orientation: int


def layout(file: BinaryIO) -> Layout:
  """Returns what is read of a file, from its header.

  Args:
    file: opened.

  Raises:
    ValueError: it is no TIFF, or has no image of rows and columns.
  """
  with tifffile.TiffFile(file) as tif:
    return _layout(tif)


def read(encoded: bytes) -> tuple[np.ndarray, Layout]:
  """Returns the values of a file.

  Args:
    encoded: the file.

  Returns:
    The values as they are stored, [height, width, channels], black at zero,
    alpha last and not turned.

  Raises:
    ValueError: it is damaged, or of a kind that is not read.
  """
  with tifffile.TiffFile(io.BytesIO(encoded)) as tif:
    plan = _layout(tif)
    pixels = plan.shape[0] * plan.shape[1]
    if pixels > 2 * (PIL.Image.MAX_IMAGE_PIXELS or pixels):  # as Pillow
      raise ValueError(f'too large ({pixels / 1e6:,.0f} megapixels)')
    array = _by_pillow(encoded, plan)
    if array is None:
      if plan.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        name = getattr(tif.pages[0], 'photometric', plan.photometric)
        raise ValueError(f'{plan.dtype} values of photometric {name!r}')
      array = _series(tif).asarray() if plan.whole else tif.pages[0].asarray()
      array = _first(array, _axes(tif, plan.whole), plan.axes)
  if plan.axes == 'YX':
    array = array[..., None]
  elif plan.axes == 'CYX':
    array = np.moveaxis(array, 0, -1)
  if plan.photometric == _WHITE_IS_ZERO and array.dtype.kind == 'u':
    array = np.iinfo(array.dtype).max - array
  return array, plan


def is_pillows(encoded: bytes | BinaryIO) -> bool:
  """Returns whether Pillow reads a file as it is: 8 bits, known channels.

  Args:
    encoded: the file, or one that is open.
  """
  file = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
  try:
    image: Any = PIL.Image.open(file)
  except PIL.UnidentifiedImageError:
    return False
  file.seek(0)
  if layout(file).whole:  # its pages are rows, or channels
    return False
  bits = image.tag_v2.get(258, (1,))
  bits = bits if isinstance(bits, tuple) else (bits,)
  samples = image.tag_v2.get(277, 1)
  return (
    image.mode in _PILLOW_MODES
    and max(bits) <= 8
    and samples == len(image.getbands())
    and image.tag_v2.get(284, 1) == 1  # not planar
  )


def _by_pillow(encoded: bytes, plan: Layout) -> np.ndarray | None:
  """Returns gray of more than 8 bits; None where Pillow may be wrong."""
  if plan.whole or plan.axes != 'YX' or plan.photometric != _BLACK_IS_ZERO:
    return None
  try:
    image = PIL.Image.open(io.BytesIO(encoded))
  except PIL.UnidentifiedImageError:
    return None
  if image.mode not in _PILLOW_DEEP or plan.orientation != 1:
    return None
  return np.asarray(image).astype(plan.dtype)


def _series(tif: Any) -> Any:
  if not tif.series:
    raise ValueError('a TIFF without a page')
  return tif.series[0]


def _axes(tif: Any, whole: bool) -> str:
  return _series(tif).axes if whole else tif.pages[0].axes


def _layout(tif: Any) -> Layout:
  series, page = _series(tif), tif.pages[0]
  axes, shape = series.axes, series.shape
  whole = 'C' in axes
  if not whole and series.kind == 'shaped' and series.ndim == 3:
    # Someone's array [channels, height, width] or [height, width, channels].
    last = shape[2] < shape[0]
    if 'S' not in axes and min(shape[0], shape[2]) <= _MOST_CHANNELS:
      axes, whole = ('YXC' if last else 'CYX'), True
  if not whole:
    axes, shape = page.axes, page.shape
  axes = axes.replace('S', 'C') if 'C' not in axes else axes
  sizes = dict(zip(axes, shape, strict=True))
  if not {'Y', 'X'} <= set(axes):
    raise ValueError(f'a TIFF of axes {axes}')
  channels = sizes.get('C', 1)
  extra = tuple(map(int, getattr(page, 'extrasamples', ())))
  alpha = extra[-1] if extra and channels > 1 and not whole else 0
  alpha = alpha if alpha in _ALPHA else 0
  return Layout(
    (sizes['Y'], sizes['X'], channels - bool(alpha)),
    np.dtype(series.dtype),
    alpha,
    ''.join(axis for axis in axes if axis in 'YXC'),
    whole,
    int(page.photometric),
    int(page.tags.valueof(274, 1)),
  )


def _first(array: np.ndarray, axes: str, wanted: str) -> np.ndarray:
  """Returns the first of all that is neither rows, columns nor channels."""
  if array.ndim == len(wanted):
    return array
  kept = 'YXC' if 'C' in axes else 'YXS'
  return array[tuple(slice(None) if a in kept else 0 for a in axes)]
