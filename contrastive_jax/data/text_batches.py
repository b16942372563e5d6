"""Batches of sentences: as exact for (seed, epoch) as those of images."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data import order
from contrastive_jax.data.split import Split
from contrastive_jax.data.tokenize import Tokenized


class TrainBatches:
  """Endless batches of views; batch s is the same however one gets there.

  Yields dicts of arrays:
    views: a tuple of what `Tokenized.rows` makes, one of each column. All of a
      batch are of one length, the same on every process.
    id, epoch, label: int32 [b]; label is -1 without labels.
    replaced: bool [b], False: sentences can be read.
  """

  def __init__(
    self,
    split: Split,
    columns: Sequence[Tokenized],
    lengths: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
  ):
    """Opens the split at a step.

    Args:
      split: for the labels.
      columns: the sentences that each view is made of.
      lengths: that batches may have, rising; the last holds any sentence.
      batch_size: sentences a step, of all processes together.
      seed: of the order.
      start_step: the first batch.
      process_index: this process gets the contiguous rows
        [process_index * b, (process_index + 1) * b) of the global batch.
      process_count: b = batch_size / process_count.

    Raises:
      ValueError: arguments that cannot be.
    """
    check_rows(batch_size, process_count)
    self.unreadable: dict[int, str] = {}
    local = batch_size // process_count
    self._rows = slice(process_index * local, (process_index + 1) * local)
    self._columns, self._lengths = columns, lengths
    self._labels = labels_of(split)
    steps = split.size // batch_size
    self._batches = order.batches(
      split.size, order.Order(batch_size, steps, 0, 0, seed, start_step)
    )

  def __iter__(self):
    return self

  def __next__(self) -> dict[str, Any]:
    epoch, batch = next(self._batches)
    longest = max(column.lengths(batch).max() for column in self._columns)
    length = next(n for n in self._lengths if n >= longest)
    ids = batch[self._rows]
    return {
      'views': tuple(column.rows(ids, length) for column in self._columns),
      'id': ids,
      'epoch': np.full(len(ids), epoch, np.int32),
      'label': self._labels[ids],
      'replaced': np.zeros(len(ids), bool),
    }

  def close(self) -> None:
    """Nothing is read ahead."""


def eval_batches(
  split: Split,
  make_rows: Any,
  *,
  batch_size: int,
  process_index: int = 0,
  process_count: int = 1,
  limit: int | None = None,
  unreadable: dict[int, str] | None = None,
) -> Iterator[dict[str, Any]]:
  """Yields every example once, in batches of one size.

  Args:
    split: any.
    make_rows: ids int [b] -> what the encoder is given of these.
    batch_size: of all processes together.
    process_index: this process gets every process_count-th batch's part.
    process_count: see process_index.
    limit: only the first so many.
    unreadable: stays empty.

  Yields:
    'input', 'id', 'label', and 'mask', bool [b]: False of rows that only fill
    up the last batch.
  """
  del unreadable
  check_rows(batch_size, process_count)
  labels, local = labels_of(split), batch_size // process_count
  count = split.size if limit is None else min(limit, split.size)
  for start in range(0, count, batch_size):
    places = start + process_index * local + np.arange(local)
    ids = np.minimum(places, count - 1)
    yield {
      'input': make_rows(ids),
      'id': ids.astype(np.int32),
      'label': labels[ids],
      'mask': places < count,
    }


def labels_of(split: Split) -> np.ndarray:
  """Returns int32 [size], -1 where there is no label."""
  if split.labels is None:
    return np.full(split.size, -1, np.int32)
  return split.labels


def check_rows(batch_size: int, process_count: int) -> None:
  """Refuses a batch that the processes cannot share."""
  if batch_size < 1 or batch_size % process_count:
    raise Error(
      f'batch size {batch_size} is not divisible by {process_count} processes'
    )
