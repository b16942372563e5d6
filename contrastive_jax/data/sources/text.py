"""The data source text:FILE: a sentence a line. Tables are csv:FILE."""

import math
import pathlib
from typing import Any

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.sources import _table
from contrastive_jax.data.split import Source, Split, hold_out
from contrastive_jax.data.texts import Texts

SPEC = 'text:FILE'
COLUMNS = ('text', 'pair', 'negative', 'score', 'label', 'split')


def load(where: str, *, channels: int | None = None) -> Source:
  """Opens a file of sentences, UTF-8, one a line. Empty lines are left out.

  All are trained on, and there is no test split. Ids count the sentences.

  Args:
    where: path of the file.
    channels: not used; of images.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  del channels
  spec, path = f'text:{where}', pathlib.Path(where).expanduser()
  if not path.is_file():
    raise MissingError(f'{spec}: there is no file {path}')
  try:
    lines = path.read_text(encoding='utf-8-sig').split('\n')
  except (UnicodeDecodeError, OSError) as error:
    raise Error(f'{spec} cannot be read as UTF-8: {error}') from error
  sentences = [line.strip() for line in lines]
  sentences = [line for line in sentences if line]
  return from_columns(spec, {'text': sentences})


def from_columns(spec: str, table: dict[str, list[Any]]) -> Source:
  """Makes a source of the columns of a table.

  Without a column `split`, a fixed fifth of every class of the labeled
  sentences is the test split (ours, see `hold_out`). Ids count the rows.

  Args:
    spec: of the source.
    table: `text`; perhaps `pair` (a text that means the same), `negative` (one
      that does not, of each row), `score` (how alike people found text and
      pair; may be empty), `label` and `split`, as of images.

  Raises:
    Error: one sentence that says what is wrong.
  """
  count = len(table['text'])
  text, pair, negative = (
    [_table.text(value) or '' for value in table.get(name, [])]
    for name in ('text', 'pair', 'negative')
  )
  if empty := sum(not t for t in text):
    raise Error(f'{spec}: {empty:,} of {count:,} rows have no text')
  if empty := sum(not t for t in negative):
    raise Error(f'{spec}: {empty:,} of {count:,} rows have no negative')
  if negative and not pair:
    raise Error(f'{spec} has a column negative, and none named pair')
  scores = [_number(spec, value) for value in table.get('score', [])]
  if count < 2:
    raise Error(f'{spec} has {count} sentences: at least 2 are needed')
  rows = _table.rows(spec, {**table, 'path': text})
  labels = {r.label for r in rows if r.kind == 'train' and r.label}
  names = tuple(sorted(labels, key=_table.by_number)) or None
  others = [r.label for r in rows if r.label and r.label not in labels]
  if names and others:
    raise Error(
      f'{spec} has the class {others[0]}, which training has not '
      f'({len(others):,} rows of {len(set(others)):,} such classes)'
    )
  kinds = np.array([row.kind for row in rows])
  numbers = np.array(
    [names.index(r.label) if names and r.label in names else -1 for r in rows]
  )
  trained, tested, val = (
    np.flatnonzero(kinds == kind) for kind in ('train', 'test', 'val')
  )
  if not len(trained):
    raise Error(f'{spec} has no rows to train on: split is train in none')
  notes = []
  if len(tested) and len(val):
    notes.append(f'val ({len(val):,} sentences) is not used')
  tested = tested if len(tested) else val
  chosen = 'its own'
  if not len(tested) and names:
    trained, tested = (trained[i] for i in hold_out(numbers[trained]))
    chosen = 'a fifth of every class, our choice'

  def split(name: str, ids: np.ndarray) -> Split:
    texts: Any = Texts(
      tuple(text), tuple(pair), tuple(negative), tuple(scores)
    ).subset(ids)
    return Split(
      name=f'{spec} {name}',
      size=len(ids),
      channels=0,
      num_classes=len(names) if names else None,
      class_names=names,
      labels=numbers[ids].astype(np.int32) if names else None,
      reader=texts,
      keys=tuple('\t'.join(filter(None, row)) for row in _rows(texts)),
    )

  notes[:0] = [
    f'{spec}: {count:,} sentences, trained on {len(trained):,}'
    + (f', tested on {len(tested):,} ({chosen})' if len(tested) else '')
    + (f', {len(names)} classes' if names else ', no labels')
    + (f', {sum(map(bool, pair)):,} have a pair' if pair else '')
  ]
  if unknown := [name for name in table if name not in COLUMNS]:
    notes.append(f'columns that are not read: {", ".join(unknown)}')
  return Source(
    spec,
    split('train', trained),
    split('test', tested) if len(tested) else None,
    modality='text',
    notes=tuple(notes),
  )


def _number(spec: str, value: Any) -> float:
  """Returns a score, NaN where there is none."""
  if _table.text(value) is None:
    return math.nan
  try:
    number = float(value)
  except (TypeError, ValueError):
    number = math.nan
  if not math.isfinite(number):
    raise Error(f'{spec}: a score is {value!r}, which is no number')
  return number


def _rows(texts: Texts):
  columns = [c for c in (texts.text, texts.pair, texts.negative) if c]
  return zip(*columns, strict=True)
