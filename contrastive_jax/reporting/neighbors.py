"""A page of some images and those that the encoder takes for the most alike."""

import os
import pathlib
from typing import Any

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data import split as split_lib
from contrastive_jax.evaluation import knn
from contrastive_jax.evaluation.embed import Embedded
from contrastive_jax.reporting import page
from contrastive_jax.training import build, sidefiles

QUERIES = 30
_SIDE = 96  # pixels of a picture, at most


def check(k: int | None, images: int, seed: int = 0) -> None:
  """Refuses a number of neighbors that there are not.

  Args:
    k: of each query; None: no page is asked for.
    images: how many there are.
    seed: of the choice of the queries.

  Raises:
    Error: one sentence.
  """
  if k is not None and not 1 <= k < images:
    raise Error(
      f'--neighbors={k}: of {images:,} images each has 1 to {images - 1:,} '
      'neighbors'
    )
  if seed < 0:
    raise Error(f'--seed={seed} is below 0')


def nearest(
  found: Embedded, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns queries, their neighbors, and how alike these are.

  Args:
    found: of `embed.compute`.
    k: neighbors of each, itself not among them.
    seed: of the choice of the queries.

  Returns:
    Rows [q] in order, rows [q, k] nearest first, cosines [q, k].
  """
  n = len(found.vectors)
  chosen = np.random.default_rng(seed).choice(n, min(QUERIES, n), replace=False)
  rows = np.sort(chosen)
  similarity, index = knn.nearest(found.vectors, found.vectors[rows], k=k + 1)
  others = index != rows[:, None]
  # Copies of a query may stand before it, even so that it is not found.
  others[others.all(axis=1), -1] = False
  shape = len(rows), k
  return rows, index[others].reshape(shape), similarity[others].reshape(shape)


def write(
  found: Embedded, job: build.Job, k: int, output: pathlib.Path, seed: int = 0
) -> None:
  """Writes the page: one file, which opens without a network.

  Args:
    found: of `embed.compute`.
    job: that the vectors are of: its images are shown as it crops them.
    k: neighbors of each query.
    output: an .html file.
    seed: of the choice of up to 30 queries.
  """
  check(k, len(found.vectors), seed)
  rows, index, similarity = nearest(found, k, seed)
  shown = np.unique(np.concatenate([rows, index.ravel()]))
  pictures = _pictures(found, job, shown)
  labels = found.class_names()

  def cell(row: int, below: str, kind: str = '') -> str:
    name = found.names(found.numbers[row : row + 1])[0]
    label = int(found.labels[row])
    lines = [os.path.basename(name), below]
    if labels and label >= 0:
      lines.append(labels[label])
    texts = [page.element('div', text) for text in lines if text]
    picture = page.thumbnail(pictures[row], name)
    return page.group('td', [picture, *texts], kind=kind, title=name)

  lines = []
  for query, others, alike in zip(rows, index, similarity, strict=True):
    cells = [cell(int(query), '')]
    for other, cosine in zip(others, alike, strict=True):
      known = min(found.labels[query], found.labels[other]) >= 0
      same = found.labels[query] == found.labels[other]
      kind = ('right' if same else 'wrong') if labels and known else ''
      cells.append(cell(int(other), f'{cosine:.3f}', kind))
    lines.append(page.group('tr', cells))
  about = found.about
  title = f'Nearest neighbors in {about["images"]}'
  text = (
    f'{len(rows)} of {len(found.vectors):,} {job.modality.plural}, chosen by '
    f'seed {seed}, and the {k} others with the largest cosine each, by the '
    f'layer {about["layer"]} of step {about["step"]:,} of {about["workdir"]}.'
  )
  if labels:
    text += ' The frame says whether the label is the same (dashed: it is not).'
  table = page.group(
    'div', [page.group('table', lines, kind='sheet')], kind='scroll'
  )
  body = [page.element('h1', title), page.element('p', text), table]
  sidefiles.atomic_write(output, page.document(title, body))


def _pictures(
  found: Embedded, job: build.Job, rows: np.ndarray
) -> dict[int, Any]:
  """Returns some examples as the encoder got them, but not as small."""
  which, ids = found.places(found.numbers[rows])
  pictures: dict[int, Any] = {}
  for place, split in enumerate(found.splits.values()):
    here = rows[which == place]
    if not len(here):
      continue
    own = max(split.image_shape) if split.image_shape else _SIDE
    shown = job.modality.preview.pictures(
      split_lib.subset(split, ids[which == place], 'shown'),
      side=min(own, _SIDE),
      whole='whole' in str(found.about['crop']),
    )
    pictures |= {int(here[i]): picture for i, picture in shown.items()}
  return pictures
