"""A page of some images and those that the encoder takes for the most alike."""

import os
import pathlib
from collections.abc import Sequence
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
  about = (
    f'{len(rows)} of {len(found.vectors):,} {plural(found, job)}, chosen by '
    f'seed {seed}, and the {k} others with the largest cosine each'
  )
  _write(found, job, rows, list(index), list(similarity), about, output)


def search(
  found: Embedded,
  job: build.Job,
  texts: Sequence[str],
  vectors: np.ndarray,
  k: int,
  output: pathlib.Path,
) -> list[list[str]]:
  """Writes the page of what is nearest to some texts.

  Args:
    found: of `embed.compute`.
    job: as of `write`.
    texts: what is searched for.
    vectors: of these, [q, d], in the space of those that were found.
    k: how many to show of each; an image with several texts is one.
    output: an .html file.

  Returns:
    Of each text what is nearest, nearest first: texts, or names of images.
  """
  rows = np.arange(len(found.vectors))
  if plural(found, job) == 'images':
    _, rows = np.unique(found.names(found.numbers), return_index=True)
    rows = np.sort(rows)
  k = min(k, len(rows))
  alike, places = knn.nearest(found.vectors[rows], vectors, k=k)
  hits = rows[places]
  about = (
    f'{len(texts)} texts, and the {k} of {len(rows):,} '
    f'{plural(found, job)} with the largest cosine each'
  )
  pictures = _write(found, job, texts, list(hits), list(alike), about, output)

  def name(row: int) -> str:
    if isinstance(picture := pictures[row], str):
      return picture
    return found.names(found.numbers[row : row + 1])[0]

  return [[name(int(row)) for row in rows] for rows in hits]


def plural(found: Embedded, job: build.Job) -> str:
  """Returns what vectors are of: 'images', 'sentences', 'texts'."""
  if not job.objective.text_modules:
    return job.modality.plural
  texts = found.about['layer'] in job.objective.text_modules
  return 'texts' if texts else 'images'


def _write(
  found: Embedded,
  job: build.Job,
  queries: Sequence[str] | np.ndarray,
  index: Sequence[np.ndarray],
  similarity: Sequence[np.ndarray],
  about: str,
  output: pathlib.Path,
) -> dict[int, Any]:
  """Writes the page; queries are texts, or rows of those that were found."""
  rows = [query for query in queries if not isinstance(query, str)]
  shown = np.unique(np.concatenate([rows, *index]).astype(int))
  pictures = _pictures(found, job, shown)
  labels = found.class_names()

  def cell(row: int, below: str, kind: str = '') -> str:
    name = found.names(found.numbers[row : row + 1])[0]
    label = int(found.labels[row])
    text = isinstance(pictures[row], str)
    lines = ['' if text else os.path.basename(name), below]
    if labels and label >= 0:
      lines.append(labels[label])
    texts = [page.element('div', text) for text in lines if text]
    picture = page.thumbnail(pictures[row], name)
    return page.group('td', [picture, *texts], kind=kind, title=name)

  lines = []
  for query, others, alike in zip(queries, index, similarity, strict=True):
    if own := isinstance(query, str):
      cells = [page.group('td', [page.thumbnail(query, query)])]
    else:
      cells = [cell(int(query), '')]
    for other, cosine in zip(others, alike, strict=True):
      kind = ''
      if labels and not own:
        a, b = found.labels[query], found.labels[other]
        if min(a, b) >= 0:
          kind = 'right' if a == b else 'wrong'
      cells.append(cell(int(other), f'{cosine:.3f}', kind))
    lines.append(page.group('tr', cells))
  of = found.about
  text = (
    f'{about}, by the layer {of["layer"]} of step {of["step"]:,} of '
    f'{of["workdir"]}.'
  )
  if labels and len(rows):
    text += ' The frame says whether the label is the same (dashed: it is not).'
  table = page.group(
    'div', [page.group('table', lines, kind='sheet')], kind='scroll'
  )
  title = f'Nearest neighbors in {of["images"]}'
  body = [page.element('h1', title), page.element('p', text), table]
  sidefiles.atomic_write(output, page.document(title, body))
  return pictures


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
    if found.about['layer'] in job.objective.text_modules:
      captions = split.captions or ()
      own = zip(here, ids[which == place], strict=True)
      pictures |= {int(row): captions[i] for row, i in own}
      continue
    own = max(split.image_shape) if split.image_shape else _SIDE
    shown = job.modality.preview.pictures(
      split_lib.subset(split, ids[which == place], 'shown'),
      side=min(own, _SIDE),
      whole='whole' in str(found.about['crop']),
    )
    pictures |= {int(here[i]): picture for i, picture in shown.items()}
  return pictures
