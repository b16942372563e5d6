"""The data source csv:FILE: a table of images, .csv or .parquet.

The header names the columns `path`, and perhaps `label` and `split`. Paths are
relative to the table's folder; an empty label is an image without one, which is
pretrained on and not measured; the splits have the names that folders may have.
"""

import csv
import importlib
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.sources import _files, _layout, _scan
from contrastive_jax.data.split import Source, hold_out

SPEC = 'csv:FILE'

_COLUMNS = ('path', 'label', 'split')
_DELIMITERS = ',;\t'
_NAMED = 3  # examples that are named in a sentence


class _Row(NamedTuple):
  path: str
  label: str | None
  kind: str  # 'train', 'test' or 'val'


def load(where: str, *, channels: int | None = None) -> Source:
  """Opens a table of images.

  Without a column `split`, a fixed fifth of every class of the labeled images
  is the test split (ours, see `hold_out`). Ids count the rows in their order.
  Rows whose file is not there, and double rows, are left out and counted.

  Args:
    where: path of the table; one that ends in .parquet is read by pyarrow.
    channels: as of `sources.load`; None is 3, unless most files have others.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  spec, path = f'csv:{where}', pathlib.Path(where).expanduser()
  if not path.is_file():
    raise MissingError(f'{spec}: there is no file {path}')
  table = _table(spec, path)
  kept, notes = _kept(spec, path.parent, rows(spec, table))
  trained = [r for r in kept if r.kind == 'train']
  tests = {k: [r for r in kept if r.kind == k] for k in ('test', 'val')}
  if len(trained) < 2:
    raise Error(
      f'{spec}: {len(trained)} of {len(kept):,} images are to be trained on, '
      'at least 2 are needed'
    )
  names = sorted({r.label for r in trained if r.label}, key=by_number)
  names = tuple(names) or None
  tested, test_name = tests['test'] or tests['val'], 'test'
  if tested and tests['test'] and tests['val']:
    notes.append(f'val ({len(tests["val"]):,} images) is not used')
  if not tested and names:
    numbers = np.array([names.index(r.label) if r.label else -1 for r in kept])
    parts = hold_out(numbers)
    trained, tested = ([kept[i] for i in ids] for ids in parts)
    test_name = 'a fifth of every class, our choice'
  notes.insert(0, _said(spec, kept, trained, tested, test_name, names))
  others = [name for name in table if name not in _COLUMNS]
  if others:
    notes.append(f'columns that are not read: {", ".join(others)}')

  def split(name: str, some: list[_Row]):
    return _files.split(
      f'{spec} {name}',
      path.parent,
      [r.path for r in some],
      [r.label for r in some],
      names,
      channels or 3,
    )

  return Source(
    spec,
    split('train', trained),
    split('test', tested) if tested else None,
    notes=tuple(map(_scan.shown, notes)),
  )


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


def _table(spec: str, path: pathlib.Path) -> dict[str, list[Any]]:
  table = columns(spec, path)
  if 'path' not in table:
    raise Error(
      f'{spec} has the columns {", ".join(table) or "(none)"}: one is named '
      'path, and others may be named label and split'
    )
  return table


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


def rows(spec: str, table: dict[str, list[Any]]) -> list[_Row]:
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
  return [
    _Row(path or '', label, kinds[split] or '')
    for path, label, split in zip(paths, labels, splits, strict=True)
  ]


def text(value: Any) -> str | None:
  """Returns an entry as text; None of an empty one."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)  # a column of numbers with gaps
  text = '' if value is None or value != value else str(value).strip()
  return text or None


def _kept(
  spec: str, root: pathlib.Path, rows: list[_Row]
) -> tuple[list[_Row], list[str]]:
  """Returns the rows whose files are there, each file once, and notes."""
  missing, double, kept = [], [], {}
  for row in rows:
    path = root / os.path.expanduser(row.path)
    if not path.is_file():
      missing.append(row.path)
      continue
    known = kept.setdefault(os.path.realpath(path), row)
    if known is row:
      continue
    if known._replace(path='') != row._replace(path=''):
      raise Error(
        f'{spec} has {row.path} twice, as {_as(known)} and as {_as(row)}'
      )
    double.append(row.path)
  if not kept:
    raise MissingError(
      f'{spec}: none of its {len(rows):,} files is there ({listed(missing)}); '
      f'paths are relative to {root}'
    )
  notes = []
  if missing:
    notes.append(
      f'warning: {len(missing):,} of {len(rows):,} files are not there '
      f'({listed(missing)})'
    )
  if double:
    notes.append(
      f'{len(double):,} of {len(rows):,} rows are of a file that another row '
      f'has, and are left out ({listed(double)})'
    )
  return list(kept.values()), notes


def _as(row: _Row) -> str:
  return f'{row.kind}, {row.label or "no label"}'


def _said(spec, rows, trained, tested, test_name, names) -> str:
  text = f'{spec}: {len(rows):,} images, trained on {len(trained):,}'
  if tested:
    text += f', tested on {len(tested):,} ({test_name})'
  else:
    text += ', there is no test split'
  if names is None:
    return f'{text}; none of those to train on has a label'
  labels = [r.label for r in rows if r.label]
  return f'{text}; {len(labels):,} have labels: {_files.counts(labels)}'


def by_number(name: str) -> tuple:
  """Returns what sorts names of classes: numbers by value, before words."""
  return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def listed(names: Iterable[str]) -> str:
  """Returns the first few names, as a sentence has them."""
  names = list(names)
  more = ', ...' if len(names) > _NAMED else ''
  return ', '.join(names[:_NAMED]) + more
