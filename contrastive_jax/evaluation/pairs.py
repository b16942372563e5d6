"""Protocols of pairs: retrieval, rank correlation, classes by their names."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data.split import Source, Split, subset
from contrastive_jax.evaluation import (
  correctness,
  encoder,
  intervals,
  zero_shot,
)
from contrastive_jax.evaluation import retrieval as retrieval_lib
from contrastive_jax.training import build
from contrastive_jax.training.state import TrainState

PROTOCOLS = ('retrieval', 'spearman', 'zero_shot')


def fitting(
  job: build.Job, sources: Sequence[Source], protocol: str
) -> list[Source]:
  """Returns those of some sources that a protocol can be measured of.

  Args:
    job: of the run.
    sources: any.
    protocol: one of `PROTOCOLS`.

  Raises:
    Error: it is none of them.
  """
  towers = bool(job.objective.text_modules)

  def fits(source: Source) -> bool:
    split = source.test or source.train
    if protocol == 'zero_shot':
      return towers and bool(source.test and source.test.num_classes)
    if protocol == 'retrieval' and towers:
      return any(split.captions or ())
    return len(_pairs(split, scored=protocol == 'spearman')) > 0

  if found := [source for source in sources if fits(source)]:
    return found
  wants = {
    'retrieval': (
      'text with pairs that no score says how alike they are, or a run of '
      'images with texts'
    ),
    'spearman': 'text with the columns pair and score',
    'zero_shot': 'a tower of text, and test images with labels',
  }
  raise Error(
    f'{protocol} needs {wants[protocol]}: there are none in '
    + ', '.join(source.name for source in sources)
  )


def measure(
  job: build.Job,
  state: TrainState | None,
  source: Source,
  protocol: str,
  representation: str,
  prompts: Sequence[str] = (),
) -> list[dict[str, Any]]:
  """Measures the pairs of a source's test split.

  Args:
    job: of the run.
    state: of the run; None: the modality's baseline.
    source: of `fitting`. If it has no test split, all of it counts.
    protocol: `retrieval`: of each text the place of its pair (or its image)
      among all, and of each pair that of its text; recall at 1, 5 and 10.
      A text is no answer to itself, and pairs with a score are left out.
      `spearman`: the rank correlation of cosines with the scores. `zero_shot`:
      see there.
    representation: its name, for the results.
    prompts: of zero_shot; none: ours.

  Returns:
    Results as `run.evaluate` has them; none of a baseline that cannot have any.

  Raises:
    Error: fewer than two pairs.
  """
  towers = bool(job.objective.text_modules)
  if state is None and (towers or protocol == 'zero_shot'):
    return []  # pixels and words have nothing in common
  if protocol == 'zero_shot':
    assert state is not None
    prompts = prompts or zero_shot.PROMPTS
    return [zero_shot.measure(job, state, source, prompts, representation)]
  if towers:
    split, sides = _images_and_texts(job, state, source)
  else:
    split, sides = _texts(job, state, source, scored=protocol == 'spearman')
  common = {
    'protocol': protocol,
    'representation': representation,
    'data': split.name,
    'examples': split.size,
    'headline': True,
    'test_sha256': correctness.images_sha256(
      split, np.arange(split.size), np.zeros(split.size)
    ),
  }
  if protocol == 'spearman':
    texts: Any = split.reader
    (_, _, own), (_, _, other) = sides
    found = retrieval_lib.spearman(
      retrieval_lib.cosines(own, other), np.asarray(texts.score)
    )
    return [
      common
      | found._asdict()
      | {
        'setting': 'cosine',
        'metric': 'spearman',
        'interval': '95 % over test pairs (Bonett and Wright)',
      }
    ]
  results = []
  for (name, asked, rows), (of, given, columns) in (sides, sides[::-1]):
    # What is there twice is one, with the counterparts of both.
    queries, asked_numbers = _unique(asked)
    candidates, given_numbers = _unique(given)
    right: list[set[int]] = [set() for _ in queries]
    for query, candidate in zip(asked_numbers, given_numbers, strict=True):
      right[query].add(candidate)
    # A sentence that is somebody else's pair, too, is nearest to itself.
    numbers = {given[row]: number for number, row in enumerate(candidates)}
    itself = [
      {numbers[asked[row]]} - right[query] if asked[row] in numbers else set()
      for query, row in enumerate(queries)
    ]
    places = retrieval_lib.ranks(
      rows[queries], columns[candidates], right, itself
    )
    for k in retrieval_lib.KS:
      found = places <= k
      low, high = intervals.wilson(int(found.sum()), len(found))
      results.append(
        common
        | {
          'setting': f'{name} to {of}, the first {k} of {len(candidates):,}',
          'metric': f'recall@{k}, {name} to {of}',
          'value': float(np.mean(found)),
          'low': low,
          'high': high,
          'examples': len(found),
          'interval': '95 % over test examples (Wilson)',
          'right': correctness.pack(found),
        }
      )
  return results


def _unique(column: Sequence[str]) -> tuple[list[int], list[int]]:
  """Returns where each text stands first, and which of these each row has."""
  numbers: dict[str, int] = {}
  of_rows = [numbers.setdefault(text, len(numbers)) for text in column]
  _, first = np.unique(of_rows, return_index=True)
  return first.tolist(), of_rows


# What one side of pairs is called, its examples, and their features.
_Side = tuple[str, Sequence[str], np.ndarray]


def _texts(
  job, state, source, *, scored: bool
) -> tuple[Split, tuple[_Side, _Side]]:
  split = _chosen(source, _pairs(source.test or source.train, scored=scored))
  texts: Any = split.reader
  encode = state and encoder.frozen(job)(state)
  own, other = (
    encoder.encode(job, encode, some) if encode else encoder.baseline(job, some)
    for some in (split, _of(split, texts.pair))
  )
  return split, (('text', texts.text, own[0]), ('pair', texts.pair, other[0]))


def _images_and_texts(job, state, source) -> tuple[Split, tuple[_Side, _Side]]:
  """In the space that both have; images that cannot be read are left out."""
  captions = (source.test or source.train).captions or ()
  split = _chosen(source, np.flatnonzero(np.array(captions, object) != ''))
  image, text = job.objective.common_space()
  found, _, ids = encoder.encode(job, encoder.frozen(job, image)(state), split)
  if len(ids) < split.size:
    split = subset(split, ids, 'readable')
  captions = split.captions or ()
  texts = encoder.encode_texts(job, encoder.frozen(job, text)(state), captions)
  names = [split.describe(i) for i in range(split.size)]
  return split, (('image', names, found), ('text', captions, texts))


def _pairs(split: Split, *, scored: bool) -> np.ndarray:
  """Returns the rows that have a pair, with a score or without one."""
  pairs = getattr(split.reader, 'pair', ())
  scores = getattr(split.reader, 'score', ()) or [math.nan] * split.size
  found = [
    i
    for i, pair in enumerate(pairs)
    if pair and math.isfinite(scores[i]) == scored
  ]
  return np.array(found, np.int64)


def _chosen(source: Source, ids: np.ndarray) -> Split:
  """Returns these rows of what is measured."""
  split = source.test or source.train
  if len(ids) < 2:
    raise Error(f'{split.name} has {len(ids)} pairs: at least 2 are needed')
  return subset(split, ids, 'with a pair') if len(ids) < split.size else split


def _of(split: Split, column: tuple[str, ...]) -> Split:
  """Returns the same examples, of another column."""
  texts: Any = split.reader
  reader = dataclasses.replace(texts, text=column)
  return dataclasses.replace(split, reader=reader, keys=column)
