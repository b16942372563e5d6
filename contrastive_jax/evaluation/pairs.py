"""Protocols of frozen features of pairs: retrieval, and Spearman's rho."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data.split import Source, Split, subset
from contrastive_jax.evaluation import correctness, encoder, intervals
from contrastive_jax.evaluation import retrieval as retrieval_lib
from contrastive_jax.training import build

PROTOCOLS = ('retrieval', 'spearman')


def fitting(sources: Sequence[Source], protocol: str) -> list[Source]:
  """Returns those of some sources that a protocol can be measured of.

  Args:
    sources: any.
    protocol: one of `PROTOCOLS`.

  Raises:
    Error: it is none of them.
  """
  columns = ['pair'] if protocol == 'retrieval' else ['pair', 'score']
  found = [
    source
    for source in sources
    if all(
      getattr((source.test or source.train).reader, column, ())
      for column in columns
    )
  ]
  if not found:
    names = ', '.join(source.name for source in sources)
    raise Error(
      f'{protocol} needs text with the columns {" and ".join(columns)}: there '
      f'are none in {names}'
    )
  return found


def measure(
  job: build.Job,
  encode: encoder.Encoder | None,
  source: Source,
  protocol: str,
  representation: str,
) -> list[dict[str, Any]]:
  """Measures the pairs of a source's test split.

  Args:
    job: of the run.
    encode: of `encoder.frozen`; None: the modality's baseline.
    source: of text with a column `pair`; for spearman with `score`, too. If it
      has no test split, all of it counts.
    protocol: `retrieval`: of each text the place of its pair among all pairs,
      and of each pair that of its text; recall at 1, 5 and 10. `spearman`: the
      rank correlation of cosines with the scores.
    representation: its name, for the results.

  Returns:
    Results as `run.evaluate` has them.

  Raises:
    Error: fewer than two pairs.
  """
  split, texts = _with_pairs(source)
  own, other = (
    (
      encoder.encode(job, encode, some)
      if encode
      else encoder.baseline(job, some)
    )[0]
    for some in (split, _of(split, texts.pair))
  )
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
  sides = ('text', texts.text, own), ('pair', texts.pair, other)
  results = []
  for (name, asked, rows), (of, given, columns) in (sides, sides[::-1]):
    # What is there twice is one, with the counterparts of both.
    queries, asked_numbers = _unique(asked)
    candidates, given_numbers = _unique(given)
    right: list[set[int]] = [set() for _ in queries]
    for query, candidate in zip(asked_numbers, given_numbers, strict=True):
      right[query].add(candidate)
    places = retrieval_lib.ranks(rows[queries], columns[candidates], right)
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


def _unique(column: tuple[str, ...]) -> tuple[list[int], list[int]]:
  """Returns where each text stands first, and which of these each row has."""
  numbers: dict[str, int] = {}
  of_rows = [numbers.setdefault(text, len(numbers)) for text in column]
  _, first = np.unique(of_rows, return_index=True)
  return first.tolist(), of_rows


def _with_pairs(source: Source) -> tuple[Split, Any]:
  """Returns the rows that have a pair, and their columns."""
  split = source.test or source.train
  pairs = getattr(split.reader, 'pair', ())
  ids = np.array([i for i, pair in enumerate(pairs) if pair], np.int64)
  if len(ids) < 2:
    raise Error(f'{split.name} has {len(ids)} pairs: at least 2 are needed')
  found = subset(split, ids, 'with a pair')
  return found, found.reader


def _of(split: Split, column: tuple[str, ...]) -> Split:
  """Returns the same examples, of another column."""
  texts: Any = split.reader
  reader = dataclasses.replace(texts, text=column)
  return dataclasses.replace(split, reader=reader, keys=column)
