"""The data source csv:FILE: a table of images or of texts, .csv or .parquet.

The header names the columns `path`, and perhaps `label`, `split` and `caption`,
a text beside the image. Paths are relative to the table's folder; an empty
label is an image without one, which is pretrained on and not measured; the
splits have the names that folders may have.
With `text` and no path it is a table of sentences: `sources/text.py`.
"""

import os
import pathlib
from typing import Any

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.sources import _files, _scan, _table, image_text
from contrastive_jax.data.sources import text as texts
from contrastive_jax.data.split import Source, hold_out

SPEC = 'csv:FILE'

_COLUMNS = ('path', 'label', 'split', 'caption')


def load(
  where: str, *, channels: int | None = None, training: bool = True
) -> Source:
  """Opens a table of images, or of sentences.

  Without a column `split`, a fixed fifth of every class of the labeled images
  is the test split (ours, see `hold_out`). Ids count the rows in their order.
  Rows whose file is not there, and double rows, are left out and counted.

  Args:
    where: path of the table; one that ends in .parquet is read by pyarrow.
    channels: as of `sources.load`; None is 3, unless most files have others.
    training: as of `sources.load`.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  spec, path = f'csv:{where}', pathlib.Path(where).expanduser()
  if not path.is_file():
    raise MissingError(f'{spec}: there is no file {path}')
  table = _columns(spec, path)
  if 'path' not in table:
    return texts.from_columns(spec, table)
  kept, notes = _kept(spec, path.parent, _table.rows(spec, table))
  trained = [r for r in kept if r.kind == 'train']
  tests = {k: [r for r in kept if r.kind == k] for k in ('test', 'val')}
  labels = trained
  if not training:  # no row is left out
    labels, tests = kept, {'test': tests['test'] + tests['val'], 'val': []}
    if not trained:
      trained, tests['test'] = tests['test'], []
  if training and len(trained) < 2:
    raise Error(
      f'{spec}: {len(trained)} of {len(kept):,} images are to be trained on, '
      'at least 2 are needed'
    )
  names = sorted({r.label for r in labels if r.label}, key=_table.by_number)
  names = tuple(names) or None
  tested, test_name = tests['test'] or tests['val'], 'test'
  if tested and tests['test'] and tests['val']:
    notes.append(f'val ({len(tests["val"]):,} images) is not used')
  if len(kept) < 2:
    pass  # nothing can be held out
  elif not tested and 'caption' in table:
    parts = image_text.hold_out([r.path for r in kept])
    trained, tested = ([kept[i] for i in ids] for ids in parts)
    test_name = 'a tenth, our choice'
  elif not tested and names:
    numbers = np.array([names.index(r.label) if r.label else -1 for r in kept])
    parts = hold_out(numbers)
    trained, tested = ([kept[i] for i in ids] for ids in parts)
    test_name = 'a fifth of every class, our choice'
  notes.insert(0, _said(spec, kept, trained, tested, test_name, names))
  others = [name for name in table if name not in _COLUMNS]
  if others:
    notes.append(f'columns that are not read: {", ".join(others)}')

  def split(name: str, some: list[_table.Row]):
    made = _files.split(
      f'{spec} {name}',
      path.parent,
      [r.path for r in some],
      [r.label for r in some],
      names,
      channels or 3,
    )
    if 'caption' in table:
      made = image_text.with_captions(made, [r.caption for r in some])
    return made

  return Source(
    spec,
    split('train', trained),
    split('test', tested) if tested else None,
    notes=tuple(map(_scan.shown, notes)),
  )


def _columns(spec: str, path: pathlib.Path) -> dict[str, list[Any]]:
  table = _table.columns(spec, path)
  if not {'path', 'text'} & table.keys():
    raise Error(
      f'{spec} has the columns {", ".join(table) or "(none)"}: one is named '
      'path, of images, or text, and others may be named label and split'
    )
  return table


def _kept(
  spec: str, root: pathlib.Path, rows: list[_table.Row]
) -> tuple[list[_table.Row], list[str]]:
  """Returns the rows whose files are there, each file once, and notes."""
  missing, double, kept = [], [], {}
  for row in rows:
    path = root / os.path.expanduser(row.path)
    if not path.is_file():
      missing.append(row.path)
      continue
    # An image may have several texts, each of which is an example.
    known = kept.setdefault((os.path.realpath(path), row.caption), row)
    if known is row:
      continue
    if known._replace(path='') != row._replace(path=''):
      raise Error(
        f'{spec} has {row.path} twice, as {_as(known)} and as {_as(row)}'
      )
    double.append(row.path)
  if not kept:
    raise MissingError(
      f'{spec}: none of its {len(rows):,} files is there '
      f'({_table.listed(missing)}); paths are relative to {root}'
    )
  notes = []
  if missing:
    notes.append(
      f'warning: {len(missing):,} of {len(rows):,} files are not there '
      f'({_table.listed(missing)})'
    )
  if double:
    notes.append(
      f'{len(double):,} of {len(rows):,} rows are of a file that another row '
      f'has, and are left out ({_table.listed(double)})'
    )
  return list(kept.values()), notes


def _as(row: _table.Row) -> str:
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
