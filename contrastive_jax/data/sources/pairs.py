"""The data source pairs:FILE: two images a line that show the same.

The same patient, the next frame, the same place another day: views come from
the two in turn instead of from one. A line is two paths, relative to the
file's folder; or the header names the columns `path` and `partner`, and perhaps
`label` and `split` as csv:FILE has them. What is measured is the first of each.
"""

import dataclasses
import os
import pathlib
from typing import Any

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.sources import _files, _scan, _table
from contrastive_jax.data.split import Source, Split
from contrastive_jax.data.tensorflow_host import tf

SPEC = 'pairs:FILE'


def load(where: str, *, channels: int | None = None) -> Source:
  """Opens a table of pairs of images.

  Without a column `split` all pairs are trained on, and there is no test split.
  Ids count the rows in their order. Rows of which a file is not there are left
  out and counted.

  Args:
    where: path of the table; one that ends in .parquet is read by pyarrow.
    channels: as of `sources.load`.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  spec, path = f'pairs:{where}', pathlib.Path(where).expanduser()
  if not path.is_file():
    raise MissingError(f'{spec}: there is no file {path}')
  table = _columns(spec, path)
  rows = _table.rows(spec, table)
  partners = [_table.text(value) for value in table['partner']]
  if empty := sum(not partner for partner in partners):
    raise Error(f'{spec}: {empty:,} of {len(rows):,} rows have no partner')
  pairs, missing, alone = [], [], 0
  for row, partner in zip(rows, partners, strict=True):
    both = [
      path.parent / os.path.expanduser(p) for p in (row.path, partner or '')
    ]
    lacks = [p for p in both if not p.is_file()]
    missing += lacks[:1]
    alone += not lacks and os.path.samefile(*both)
    if not lacks:
      pairs.append((row, partner))
  if not pairs:
    raise MissingError(
      f'{spec}: of none of its {len(rows):,} pairs both files are there '
      f'({_table.listed(map(str, missing))}); paths are relative to '
      f'{path.parent}'
    )
  kinds = {
    kind: [p for p in pairs if p[0].kind == kind]
    for kind in ('train', 'test', 'val')
  }
  if len(kinds['train']) < 2:
    raise Error(
      f'{spec}: {len(kinds["train"])} of {len(pairs):,} pairs are to be '
      'trained on, at least 2 are needed'
    )
  labels = {row.label for row, _ in kinds['train'] if row.label}
  names = tuple(sorted(labels, key=_table.by_number)) or None

  def split(name: str, some: list[Any]) -> Split:
    made = _files.split(
      f'{spec} {name}',
      path.parent,
      [row.path for row, _ in some],
      [row.label for row, _ in some],
      names,
      channels or 3,
    )
    # As bytes: a name need not be UTF-8.
    table = tf.constant([os.fsencode(path.parent / p) for _, p in some])
    reader: Any = made.reader
    reader = dataclasses.replace(
      reader, partner=lambda i: tf.io.read_file(tf.gather(table, i))
    )
    keys = tuple(partner for _, partner in some)
    return dataclasses.replace(made, reader=reader, keys=keys)

  tested = kinds['test'] or kinds['val']
  notes = [
    f'{spec}: {len(pairs):,} pairs, trained on {len(kinds["train"]):,}; views '
    'come from the two images of a pair in turn, and the first one is measured'
  ]
  if kinds['test'] and kinds['val']:
    notes.append(f'val ({len(kinds["val"]):,} pairs) is not used')
  if missing:
    notes.append(
      f'warning: of {len(rows) - len(pairs):,} of {len(rows):,} pairs a file '
      f'is not there ({_table.listed(map(str, missing))})'
    )
  if alone:
    notes.append(f'warning: {alone:,} pairs are an image with itself')
  return Source(
    spec,
    split('train', kinds['train']),
    split('test', tested) if tested else None,
    notes=tuple(map(_scan.shown, notes)),
  )


def _columns(spec: str, path: pathlib.Path) -> dict[str, list[Any]]:
  """Returns the columns; of a file without a header they are two paths."""
  table = _table.columns(spec, path)
  if 'path' in table and 'partner' in table:
    return table
  wanted = 'there are two paths a line, or columns named path and partner'
  if {'path', 'partner'} & table.keys():
    raise Error(f'{spec} has the columns {", ".join(table)}: {wanted}')
  try:
    return _table.columns(spec, path, header=('path', 'partner'))
  except Error as error:
    raise Error(f'{error}; {wanted}') from error
