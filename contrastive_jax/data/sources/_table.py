"""Tables, .csv and .parquet, and what their columns label and split say."""

import csv
import importlib
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from contrastive_jax.config import Error
from contrastive_jax.data.sources import _layout

_DELIMITERS = ',;\t'
_NAMED = 3  # examples that are named in a sentence


class Row(NamedTuple):
  """An example of a table: its path, or its text."""

  path: str
  label: str | None
  kind: str  # 'train', 'test' or 'val'
  caption: str = ''


def columns(
  spec: str, path: pathlib.Path, header: Sequence[str] | None = None
) -> dict[str, list[Any]]:
  """Returns the columns of a table by their names, in lower case.

  Args:
    spec: of the source.
    path: of the table.
    header: names of the columns, where the file has none.

  Raises:
    Error: it is no such table.
  """
  try:
    if path.suffix.lower() == '.parquet':
      return _parquet(spec, path)
    return _csv(spec, path, header)
  except (ValueError, OSError, csv.Error) as error:
    if isinstance(error, Error):
      raise
    raise Error(f'{spec} cannot be read: {error}') from error


def _csv(
  spec: str, path: pathlib.Path, given: Sequence[str] | None
) -> dict[str, list[Any]]:
  # A mark of byte order, as of Excel, is no part of the first name.
  with open(path, encoding='utf-8-sig', newline='') as file:
    first = file.readline()
    file.seek(0)
    # Excel writes semicolons where the comma is the decimal mark.
    delimiter = max(_DELIMITERS, key=first.count)
    header, *rows = list(csv.reader(file, delimiter=delimiter)) or [[]]
  if given is not None:
    header, rows = list(given), [header, *rows]
  names = [name.strip().lower() for name in header]
  rows = [row for row in rows if row]
  for number, row in enumerate(rows):
    if len(row) != len(names):
      raise Error(
        f'{spec}: row {number + 1} has {len(row)} entries, and the header '
        f'{len(names)}: {delimiter.join(row)[:100]!r}'
      )
  return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _parquet(spec: str, path: pathlib.Path) -> dict[str, list[Any]]:
  try:
    parquet = importlib.import_module('pyarrow.parquet')
  except ImportError as error:
    raise Error(f'{spec}: to read parquet, pip install pyarrow') from error
  columns = parquet.read_table(path).to_pydict()
  return {name.strip().lower(): column for name, column in columns.items()}


def rows(spec: str, table: dict[str, list[Any]]) -> list[Row]:
  """Returns the rows, with the kinds of their splits."""
  paths = list(map(text, table['path']))
  labels = map(text, table.get('label', [None] * len(paths)))
  splits = list(map(text, table.get('split', ['train'] * len(paths))))
  if empty := sum(not path for path in paths):
    raise Error(f'{spec}: {empty:,} of {len(paths):,} rows have no path')
  if not paths:
    raise Error(f'{spec} has no rows')
  kinds = {name: _layout.kind_of(name or '') for name in set(splits)}
  kinds = {n: 'train' if k == 'unlabeled' else k for n, k in kinds.items()}
  wrong = [n for n, k in kinds.items() if k not in ('train', 'test', 'val')]
  if wrong:
    count = sum(name in wrong for name in splits)
    raise Error(
      f'{spec}: in {count:,} of {len(paths):,} rows the split is '
      f'{listed(repr(n or "") for n in sorted(wrong, key=str))}: it may be '
      'train, test or val'
    )
  captions = map(text, table.get('caption', [None] * len(paths)))
  return [
    Row(path or '', label, kinds[split] or '', caption or '')
    for path, label, split, caption in zip(
      paths, labels, splits, captions, strict=True
    )
  ]


def text(value: Any) -> str | None:
  """Returns an entry as text; None of an empty one."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)  # a column of numbers with gaps
  text = '' if value is None or value != value else str(value).strip()
  return text or None


def by_number(name: str) -> tuple:
  """Returns what sorts names of classes: numbers by value, before words."""
  return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def listed(names: Iterable[str]) -> str:
  """Returns the first few names, as a sentence has them."""
  names = list(names)
  more = ', ...' if len(names) > _NAMED else ''
  return ', '.join(names[:_NAMED]) + more
