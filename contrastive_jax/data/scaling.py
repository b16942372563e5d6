"""Which value of images of more than 8 bits is white: one rule, and it is said.

Images of 8 bits are uint8 all the way to the device. Others are divided by
their white, cut to [0, 1] and are float32 from there on: nothing of 10, 12 or
16 bits is lost, at four times the bytes.
"""

from typing import NamedTuple

import numpy as np

from contrastive_jax.config import Error

# Bits that 16-bit values may really have.
_BITS = (8, 10, 12, 14, 16)
KINDS = 'uint8, uint16 or float'


class Seen(NamedTuple):
  """The values of some images: 'uint16' or 'float', and their range."""

  kind: str
  least: float
  most: float


def seen(images: np.ndarray) -> Seen | None:
  """Returns the range of some images; None: they are uint8.

  Args:
    images: of any shape, not empty.

  Raises:
    Error: of another type, or with values that are no numbers.
  """
  if images.dtype == np.uint8:
    return None
  if images.dtype != np.uint16 and images.dtype.kind != 'f':
    raise Error(f'values are {images.dtype}: they must be {KINDS}')
  least, most = float(images.min()), float(images.max())
  if not (np.isfinite(least) and np.isfinite(most)):  # NaN goes through both
    raise Error('some values are NaN or infinite')
  return Seen('float' if images.dtype.kind == 'f' else 'uint16', least, most)


def white(values: Seen, maximum: float, name: str) -> tuple[float, str]:
  """Returns the value that becomes 1, and a note.

  Of uint16 it is the largest of 8, 10, 12, 14 or 16 bits: of the fewest that
  hold all values. Floats are in [0, 1] as they are.

  Args:
    values: of the training images, or of some.
    maximum: that the user says is white; 0: by the rule.
    name: of the data, for the sentences.

  Raises:
    Error: floats whose white is not known, or negative values.
  """
  kind, least, most = values
  text = f'{name}: {kind} values from {least:,.6g} to {most:,.6g}'
  if least < 0:
    raise Error(f'{text}: negative ones have no place, shift them to [0, 1]')
  if maximum:
    cut = ', larger ones are cut' if most > maximum else ''
    return maximum, f'{text}, {maximum:,.6g} is white (data.maximum){cut}'
  if kind == 'float':
    if most > 1:
      raise Error(
        f'{text}: they must be in [0, 1], unless data.maximum (maximum= of '
        'from_arrays) says which one is white'
      )
    return 1.0, f'{text}, 1 is white'
  bits = next(b for b in _BITS if most < 2**b)
  return float(2**bits - 1), (
    f'{text}: taken for {bits} bits, {2**bits - 1:,} is white (data.maximum '
    'says otherwise)'
  )


def scaled(images: np.ndarray, maximum: float) -> np.ndarray:
  """Returns images divided by their white: float32, cut to [0, 1].

  Args:
    images: uint8, whose white is 255, uint16 or float.
    maximum: the white of the latter two.
  """
  if images.dtype == np.uint8:
    maximum = 255
  return np.clip(images.astype(np.float32) / np.float32(maximum), 0, 1)
