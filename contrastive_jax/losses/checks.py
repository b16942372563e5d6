"""Refusals of arguments that do not fit, in one sentence each.

NumPy's rules would stretch an axis of 1 over the other array, or fail deep
inside. Only shapes and Python numbers are looked at, which are there while a
function is traced, too.
"""

import math
import numbers
from collections.abc import Sequence

import jax
import numpy as np


def shapes(loss: str, **arrays: tuple[jax.Array, str]) -> None:
  """Refuses arrays whose axes of one letter differ in size.

  Args:
    loss: the function's name, which the sentence begins with.
    **arrays: by the argument's name, each with the letters of its axes: 'b d'.

  Raises:
    ValueError: an array has another number of axes than letters, or two sizes
      of one letter differ.
  """
  seen = {}
  for name, (array, letters) in arrays.items():
    shape, axes = np.shape(array), letters.split()
    if len(shape) != len(axes):
      raise ValueError(
        f'{loss}: {name} has shape {shape}; it must be [{", ".join(axes)}]'
      )
    for axis, size in zip(axes, shape, strict=True):
      other, other_shape, other_axes, other_size = seen.setdefault(
        axis, (name, shape, axes, size)
      )
      if size != other_size:
        what = 'they' if axes == other_axes else f'their sizes of axis {axis}'
        raise ValueError(
          f'{loss}: {other} has shape {other_shape} and {name} {shape}; '
          f'{what} must be equal'
        )


def each(
  name: str, arrays: Sequence[jax.Array], letters: str
) -> dict[str, tuple[jax.Array, str]]:
  """Returns `shapes`' arguments for every array of a sequence."""
  return {f'{name}[{i}]': (array, letters) for i, array in enumerate(arrays)}


def length(
  loss: str,
  name: str,
  sequence: Sequence[jax.Array],
  *,
  least: int,
  most: int | None = None,
) -> None:
  """Refuses a sequence of too few or too many arrays.

  Args:
    loss: see `shapes`.
    name: the argument's.
    sequence: the argument.
    least: how many arrays there must be.
    most: how many there may be. None: any number.

  Raises:
    ValueError: there are fewer, or more.
  """
  if len(sequence) < least:
    raise ValueError(
      f'{loss}: {name} has length {len(sequence)}; it must be at least {least}'
    )
  if most is not None and len(sequence) > most:
    raise ValueError(
      f'{loss}: {name} has length {len(sequence)}; it must be at most {most}'
    )


def positive(loss: str, **values: float | jax.Array | None) -> None:
  """Refuses numbers that are not positive and finite.

  Args:
    loss: see `shapes`.
    **values: by the argument's name. Arrays pass unseen: a traced one, of a
      learned temperature, has no value yet, and any other would have to be
      waited for. So does None.

  Raises:
    ValueError: a Python or NumPy number is 0, negative, infinite or NaN.
  """
  for name, value in values.items():
    if not isinstance(value, numbers.Real):
      continue
    number = float(value)
    if not math.isfinite(number):
      raise ValueError(f'{loss}: {name} is {number:g}; it must be finite')
    if number <= 0:
      raise ValueError(f'{loss}: {name} is {number:g}; it must be positive')
