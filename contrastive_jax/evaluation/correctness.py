"""Which test images are classified rightly: stored, and compared by.

Two accuracies of the same images differ by what is known better than either of
them; that takes each image's answer, a bit each.
"""

import base64
import binascii
import hashlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.data.split import Split
from contrastive_jax.evaluation import intervals

_TRAINED = 'trained encoder'


class Right(NamedTuple):
  """Which of some images one measurement has right."""

  images: str  # of `images_sha256`
  right: np.ndarray  # bool [n]


class Difference(NamedTuple):
  """Of two accuracies, as shares, with a 95 % interval."""

  value: float
  low: float
  high: float


class LessBest(NamedTuple):
  """Some settings less the best of them.

  Attributes:
    best: number of the best setting; None where nothing was measured.
    differences: one a setting; None of the best itself, and of settings that
      were not measured, or on other images.
  """

  best: int | None
  differences: list[Difference | None]


def pack(right: np.ndarray) -> str:
  """Returns bool [n] as text: eight to a byte, in base64."""
  return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpack(text: Any, examples: Any) -> np.ndarray | None:
  """Returns what `pack` was given.

  Args:
    text: of `pack`, or whatever stands in a file.
    examples: n.

  Returns:
    bool [n]; None where the two are not what they should be.
  """
  if not isinstance(text, str) or type(examples) is not int or examples < 1:
    return None
  try:
    data = base64.b64decode(text, validate=True)
  except (binascii.Error, ValueError):
    return None
  if len(data) != -(-examples // 8):
    return None
  bits = np.unpackbits(np.frombuffer(data, np.uint8), count=examples)
  return bits.astype(bool)


def images_sha256(split: Split, ids: np.ndarray, labels: np.ndarray) -> str:
  """Returns a short hash of what test images an accuracy is of.

  Args:
    split: whose images they are, as ids count from 0 in any.
    ids: [n], in the order of the answers.
    labels: [n].

  Returns:
    16 hexadecimal digits; the same wherever the data lies.
  """
  from contrastive_jax.training import identity  # imports JAX

  digest = hashlib.sha256(identity.of_data(split).encode())
  for array in (ids, labels):
    digest.update(np.ascontiguousarray(array, np.int64).tobytes())
  return digest.hexdigest()[:16]


def of_summary(summary: Mapping[str, Any]) -> dict[str, Right]:
  """Returns what the trained encoder of a summary.json has right.

  Args:
    summary: of any version, or damaged.

  Returns:
    By key of the accuracy, such as 'linear_accuracy'; without those that are
    not stored.
  """
  rows = summary.get('right')
  row = rows.get(_TRAINED) if isinstance(rows, dict) else None
  found = {}
  for name, text in row.items() if isinstance(row, dict) else ():
    if name.startswith('knn'):
      key = 'knn_accuracy'
    else:
      key = 'linear_accuracy' if name == 'linear' else 'few_label_accuracy'
    right = _right(summary, text, summary.get('test_images'))
    if right is not None:
      found[key] = right
  return found


def of_result(
  result: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> dict[int, Right]:
  """Returns what a result of evaluation.json has right.

  Args:
    result: one that counts (`headline`).
    others: all of the file. A mean over subsets of labels has no answers; those
      of its subsets are among these.

  Returns:
    One, or one a subset, by number; none where they are not stored.
  """
  rows = [result]
  if 'right' not in result:
    names = 'step', 'protocol', 'representation', 'data', 'seed'
    rows = [
      row
      for row in others
      if row.get('headline') is False
      and all(row.get(name) == result.get(name) for name in names)
    ]
  found = [_right(row, row.get('right'), row.get('examples')) for row in rows]
  return {i: right for i, right in enumerate(found) if right is not None}


def less_best(settings: Sequence[Mapping[int, Right]]) -> LessBest:
  """Compares settings with the best of them, on the same images.

  Args:
    settings: of each what its runs have right, by seed.

  Returns:
    See `LessBest`. Best is the highest mean over the runs. The interval is that
    of `intervals.between`, which pairs the runs of two settings with the same
    seeds. It is not corrected for the best having been picked.
  """
  scores = [
    statistics.mean(float(np.mean(run.right)) for run in runs.values())
    if _same_images([runs])
    else -1.0
    for runs in settings
  ]
  best = int(np.argmax(scores)) if max(scores, default=-1.0) >= 0 else None
  found: list[Difference | None] = [None] * len(settings)
  if best is None:
    return LessBest(None, found)
  top = settings[best]
  for number, runs in enumerate(settings):
    if number == best or not _same_images([runs, top]):
      continue
    same = runs.keys() == top.keys()
    seeds = (top, top) if same else (runs, top)
    # Pairs stand in the same order.
    right, other = (
      np.stack([of_runs[seed].right for seed in order])
      for of_runs, order in zip((runs, top), seeds, strict=True)
    )
    found[number] = Difference(
      *intervals.between(right, other, same_seeds=same)
    )
  return LessBest(best, found)


def _same_images(settings: Sequence[Mapping[int, Right]]) -> bool:
  """Whether all have runs, and all runs are of the same images."""
  images = {(r.images, len(r.right)) for s in settings for r in s.values()}
  return all(settings) and len(images) == 1


def _right(of: Mapping[str, Any], text: Any, examples: Any) -> Right | None:
  images, right = of.get('test_sha256'), unpack(text, examples)
  if not isinstance(images, str) or right is None:
    return None
  return Right(images, right)
