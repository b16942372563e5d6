"""The fields of a part of the config: their defaults, ranges, and one check."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from contrastive_jax.config import Error

T = TypeVar('T')

# What arrays hold: int32 and float32.
_LARGEST = {int: 2**31 - 1, float: 3.4e38}


def field(
  default: Any,
  *,
  above: float | None = None,
  least: float | None = None,
  below: float | None = None,
  most: float | None = None,
  among: tuple[Any, ...] = (),
) -> Any:
  """Returns a dataclass field with a range.

  Args:
    default: also says the type: int, float, bool or str.
    above: the value must be larger than this.
    least: the value must be this or more.
    below: the value must be smaller than this.
    most: the value must be this or less.
    among: the values there are.
  """
  ends = dict(above=above, least=least, below=below, most=most, among=among)
  return dataclasses.field(default=default, metadata=ends)


def share(default: float) -> Any:
  """Returns a field in [0, 1]."""
  return field(default, least=0, most=1)


def read(cls: type[T], given: Mapping[str, Any], prefix: str) -> T:
  """Returns the fields that a config gives, checked, and defaults elsewhere.

  Args:
    cls: a frozen dataclass of fields made by `field`.
    given: by name.
    prefix: of the names in sentences: 'objective.'.

  Raises:
    ValueError: an unknown name, or a value of another type or out of range;
      one sentence.
  """
  fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
  for name in sorted(set(given) - set(fields)):
    near = difflib.get_close_matches(name, sorted(fields), n=1, cutoff=0.0)
    hint = f'did you mean {prefix}{near[0]}?' if near else 'it has no fields'
    raise Error(f'unknown config key {prefix}{name}; {hint}')
  values = {}
  for name, value in given.items():
    kind = type(fields[name].default)
    check(prefix + name, value, kind, fields[name].metadata)
    values[name] = kind(value)
  return cls(**values)


def check(
  name: str, value: Any, kind: type, ends: Mapping[str, Any], what: str = ''
) -> None:
  """Refuses a value of another type or out of its range.

  Args:
    name: of the field.
    value: of the field, or one of its entries.
    kind: its type: int, float, bool or str.
    ends: as `field` has them.
    what: of the sentence's begin; '': 'NAME is VALUE'.

  Raises:
    ValueError: one sentence.
  """
  what = what or f'{name} is {_shown(value)}'
  accepted = (int, float) if kind is float else kind
  if not isinstance(value, accepted) or (
    isinstance(value, bool) and kind is not bool
  ):
    raise Error(f'{what}: it must be of type {kind.__name__}')
  if among := ends.get('among'):
    if value not in among:
      known = ', '.join(map(repr, among[:-1])) + f' or {among[-1]!r}'
      raise Error(f'{name} is {known}, not {value!r}')
    return
  if kind not in (int, float):
    return
  sides = []
  if (above := ends.get('above')) is not None:
    sides.append((value > above, f'above {above:g}'))
  if (least := ends.get('least')) is not None:
    sides.append((value >= least, f'at least {least:g}'))
  if (below := ends.get('below')) is not None:
    sides.append((value < below, f'below {below:g}'))
  if (most := ends.get('most')) is not None:
    sides.append((value <= most, f'at most {most:g}'))
  if not all(holds for holds, _ in sides):
    text = ' and '.join(text for _, text in sides)
    raise Error(f'{what}: it must be {text}')
  largest = _LARGEST[kind]
  if not -largest <= value <= largest:
    raise Error(f'{what}: it must be finite and at most {largest:,g}')


def _shown(value: Any) -> str:
  text = f'{value:g}' if isinstance(value, float) else repr(value)
  return text if len(text) < 100 else f'{text[:100]}...'
