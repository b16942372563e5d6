"""A run's classifier put to images: class, probability, and how far they are.

Of a source in which some images have labels, those without are predicted.
"""

import csv
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data import labels as labels_lib
from contrastive_jax.data.split import Source, Split
from contrastive_jax.evaluation import classifier as classifier_lib
from contrastive_jax.evaluation import embed
from contrastive_jax.evaluation.embed import Embedded

_ROWS = 4096  # that are classified at a time
COLUMNS = ('path', 'class', 'probability', 'distance', 'percentile')


class Predicted(NamedTuple):
  """What was written.

  Attributes:
    images: how many rows.
    unreadable: names of the images that have none.
    far: how many rows have a percentile above 99.
    right: how many of the known labels are those predicted; None: no image
      has a label of a class that the run knows.
    known: how many such labels there are.
  """

  images: int
  unreadable: list[str]
  far: int
  right: int | None
  known: int


def predict(
  workdir: str | pathlib.Path,
  output: str | pathlib.Path,
  *,
  images: str | None = None,
  head: str = 'linear',
  step: int | None = None,
  source: Source | None = None,
  say: Callable[[str], Any] = print,
) -> Predicted:
  """Writes what a run's classifier says of images.

  Args:
    workdir: of the run; its folder `classifiers` keeps the classifier.
    output: a .csv file with `COLUMNS`, see `contrastive_jax.predict`.
    images: a data source; None: the run's own, of which only images without a
      label are predicted.
    head: 'linear' or 'finetune_PERCENT'.
    step: of the checkpoint; None: the newest.
    source: of a run that was given its data in memory; None: config.data's.
    say: takes what is to be known, a line each.

  Returns:
    What was written.

  Raises:
    Error: no run, no labels to fit on, or nothing to predict.
  """
  classifier_lib.share(head)
  path = pathlib.Path(output)
  given = embed.opened(workdir, images, step=step, source=source, say=say)
  ids = _chosen(given.source, own=images is None)
  if sum(map(len, ids.values())) < embed.size(given):
    say(f'the {sum(map(len, ids.values())):,} images without a label')
  found = classifier_lib.of_run(workdir, given.job, given.state, head, say)
  embedded = embed.compute(
    given,
    found.encoder(given.job, given.state),
    path.with_name(f'{path.name}.part'),
    {'head': head},
    ids=ids,
    say=say,
  )
  table = _known(embedded, found, say)
  predicted = _write(embedded, found, path, table)
  embedded.store.remove()
  return predicted


def _chosen(source: Source, own: bool) -> dict[str, np.ndarray]:
  """The images to be predicted: of a partly labeled source, the others."""
  splits = {'train': source.train, 'test': source.test}
  there = {name: split for name, split in splits.items() if split is not None}
  without = {name: _without(split) for name, split in there.items()}
  count = sum(map(len, without.values()))
  if own and not count:
    raise Error(
      f'all images of {source.name} have labels: there is nothing to predict; '
      '--images names others'
    )
  size = sum(split.size for split in there.values())
  if own or 0 < count < size:
    return without
  return {name: np.arange(split.size) for name, split in there.items()}


def _without(split: Split) -> np.ndarray:
  """The ids of the images without a label."""
  if not split.num_classes:
    return np.arange(split.size)
  if not labels_lib.unlabeled(split) or split.labels is None:
    return np.zeros(0, int)
  return np.flatnonzero(split.labels < 0)


def _known(
  embedded: Embedded, found: classifier_lib.Classifier, say: Callable
) -> np.ndarray:
  """The run's class of each of the source's, -1 of what it does not know."""
  theirs = embedded.class_names()
  numbers = {name: i for i, name in enumerate(found.class_names)}
  unknown = [name for name in theirs if name not in numbers]
  if unknown:
    more = f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''
    say(
      f'{embedded.about["images"]} has classes that the run does not know '
      f'({", ".join(unknown[:5])}{more}): each image gets one of its '
      f'{len(numbers)}, and may be far from all of them'
    )
  return np.array([numbers.get(name, -1) for name in theirs], int)


def _write(
  embedded: Embedded,
  found: classifier_lib.Classifier,
  path: pathlib.Path,
  table: np.ndarray,
) -> Predicted:
  temporary = path.with_name(f'.{path.name}.tmp')
  far = right = known = 0
  with temporary.open('w', encoding='utf-8', newline='') as file:
    rows = csv.writer(file, lineterminator='\n')
    name = embedded.texts if embedded.sentences() else embedded.names
    first = 'text' if embedded.sentences() else COLUMNS[0]
    rows.writerow((first, *COLUMNS[1:]))
    for start in range(0, len(embedded.vectors), _ROWS):
      block = slice(start, start + _ROWS)
      vectors = np.asarray(embedded.vectors[block])
      probabilities = found.probabilities(vectors)
      classes = probabilities.argmax(axis=1)
      distance, percentile = found.distances(vectors)
      for row in zip(
        name(embedded.numbers[block]),
        (found.class_names[c] for c in classes),
        (f'{p:.4f}' for p in probabilities.max(axis=1)),
        (f'{d:.4f}' for d in distance),
        (f'{p:.1f}' for p in percentile),
        strict=True,
      ):
        rows.writerow(row)
      far += int(np.sum(percentile > 99))
      labels = embedded.labels[block]
      if len(table):
        truth = np.where(labels >= 0, table[labels], -1)
        known += int(np.sum(truth >= 0))
        right += int(np.sum((truth >= 0) & (truth == classes)))
  temporary.replace(path)
  return Predicted(
    images=len(embedded.vectors),
    unreadable=embedded.names(embedded.unreadable),
    far=far,
    right=right if known else None,
    known=known,
  )
