"""What the newest checkpoint of a run makes of some images."""

from typing import Any, NamedTuple

import jax
import numpy as np
import sklearn.decomposition
import sklearn.manifold
import threadpoolctl

from contrastive_jax.evaluation import encoder, features
from contrastive_jax.reporting import sheet as sheet_lib
from contrastive_jax.reporting.folder import Run
from contrastive_jax.training import build, step

# Images that are looked at, and the longest side of their pictures.
_IMAGES = 2000
_SIDE = 96
# Dimensions that t-SNE starts from, and the fewest images it is drawn of.
_DIMENSIONS = 50
_FEWEST = 10
_QUERIES = 8  # images, or texts, whose nearest images are shown


class Embeddings(NamedTuple):
  """The features of up to 2,000 images.

  Attributes:
    step: of the checkpoint.
    split: its name, as 'digits test'.
    unit: float32 [n, d], features of length 1.
    labels: int32 [n], or None without labels.
    class_names: of the labels.
    images: of each [side, side, channels], or a text.
    plural: what they are called.
    captions: of each image the text beside it, if the run has both.
    names: of each image its path, likewise.
    asked: rows [q] of the images whose texts are searched with.
    common: float32 [n, d] of length 1 of the images, and [q, d] of these texts,
      in the space that both are in.
  """

  step: int
  split: str
  unit: np.ndarray
  labels: np.ndarray | None
  class_names: tuple[str, ...]
  images: list[Any]
  plural: str = 'images'
  captions: tuple[str, ...] = ()
  names: tuple[str, ...] = ()
  asked: np.ndarray | None = None
  common: tuple[np.ndarray, np.ndarray] | None = None


class Found(NamedTuple):
  """What could be had of a run; `gaps` says why the rest could not."""

  embeddings: Embeddings | None
  sheet: sheet_lib.Sheet | None
  causes: dict[str, str]  # of the objective, by verdict
  gaps: tuple[str, ...]


def load(run: Run) -> Found:
  """Draws views of a run's images and computes features of others.

  Args:
    run: its data has to be where it was, its checkpoint is read only.

  Returns:
    All that can be had; a run may be damaged or at its beginning.
  """
  try:
    job = build.build(
      encoder.read_config(run.path),
      step.make_mesh(jax.local_devices()[:1]),
      folder=run.path,
    )
  except Exception as error:  # of any class: the report shows what there is
    return Found(
      None,
      None,
      {},
      (f'No pictures: the run cannot be built again ({_first(error)}).',),
    )
  sheet, embeddings, gaps = None, None, []
  try:
    sheet = sheet_lib.sheet(job)
  except Exception as error:
    gaps.append(f'No augmented views: {_first(error)}.')
  try:
    embeddings = _embeddings(run, job)
  except Exception as error:
    gaps.append(f'No features: {_first(error)}.')
  return Found(embeddings, sheet, job.objective.causes, tuple(gaps))


def spectrum(embeddings: Embeddings) -> np.ndarray:
  """Returns the singular values [min(n, d)] of the features less their mean.

  They are relative to the largest one, which is first.
  """
  centered = embeddings.unit - embeddings.unit.mean(axis=0)
  values = np.linalg.svd(centered.astype(np.float64), compute_uv=False)
  return values / max(values[0], 1e-300)


def maps(embeddings: Embeddings) -> tuple[np.ndarray, np.ndarray | None]:
  """Returns two places in the plane of each image.

  Args:
    embeddings: of `load`.

  Returns:
    The first two principal components float32 [n, 2], and t-SNE [n, 2] of the
    first 50; None where fewer than 10 images are no map or all are at a point.
  """
  n, d = embeddings.unit.shape
  centered = embeddings.unit - embeddings.unit.mean(axis=0)
  if min(n, d) < 2 or np.abs(centered).max() < 1e-6:
    return np.zeros((n, 2), np.float32), None
  components = sklearn.decomposition.PCA(
    min(n, d, _DIMENSIONS), svd_solver='randomized', random_state=0
  ).fit_transform(centered)
  plane = components[:, :2]
  if n < _FEWEST:
    return plane, None
  tsne = sklearn.manifold.TSNE(
    perplexity=min(30.0, (n - 1) / 3),
    # The usual start: the principal plane, small.
    init=plane / plane[:, 0].std() * 1e-4,
    max_iter=500,  # the picture of 1,000, in half of the time
    random_state=0,
  )
  # Of so few points several threads take longer than one, and on a busy machine
  # five times as long.
  with threadpoolctl.threadpool_limits(1, 'openmp'):
    return plane, tsne.fit_transform(components)


def neighbors(
  embeddings: Embeddings, queries: int = _QUERIES, k: int = 7
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Finds the images that the encoder takes for the most alike.

  Args:
    embeddings: of `load`.
    queries: images to ask for, evenly spaced; fewer if there are fewer.
    k: neighbors of each, itself not among them.

  Returns:
    Rows of the queries [q], of their neighbors [q, k], nearest first, and the
    cosine similarities [q, k].
  """
  unit = embeddings.unit
  rows = _spaced(len(unit), queries)
  similarity = unit[rows] @ unit.T
  similarity[np.arange(len(rows)), rows] = -np.inf
  return rows, *_largest(similarity, min(k, len(unit) - 1))


def found_by_text(
  embeddings: Embeddings, k: int = 7
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Finds the images that are nearest to the texts beside some of them.

  Args:
    embeddings: of `load`, with `common`.
    k: images of each text.

  Returns:
    As `neighbors` does.
  """
  assert embeddings.common is not None and embeddings.asked is not None
  images, texts = embeddings.common
  return embeddings.asked, *_largest(texts @ images.T, min(k, len(images)))


def _spaced(n: int, count: int) -> np.ndarray:
  return np.unique(np.linspace(0, n - 1, min(count, n)).astype(int))


def _largest(similarity: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
  nearest = np.argsort(-similarity, axis=1, kind='stable')[:, :k]
  return nearest, np.take_along_axis(similarity, nearest, axis=1)


def _embeddings(run: Run, job: build.Job) -> Embeddings:
  state = encoder.restore(job, run.path)
  split = job.source.test or job.source.train
  found, labels, ids = encoder.encode(
    job, encoder.frozen(job)(state), split, _IMAGES
  )
  features.check_finite(found, split.name)
  pictures = job.modality.preview.pictures(
    split, side=min(job.run.input_shape[0], _SIDE), limit=_IMAGES
  )
  captions, names, asked, common = (), (), None, None
  if job.objective.text_modules and split.captions and all(split.captions):
    captions = tuple(split.captions[i] for i in ids)
    names = tuple(split.describe(int(i)) for i in ids)
    asked = _spaced(len(ids), _QUERIES)
    common = _common(job, state, split, [captions[row] for row in asked])
  return Embeddings(
    step=int(state.step),
    split=split.name,
    unit=features.unit(found),
    labels=labels if split.num_classes and labels.min() >= 0 else None,
    class_names=split.class_names or (),
    images=[pictures[int(i)] for i in ids],
    plural=job.modality.plural,
    captions=captions,
    names=names,
    asked=asked,
    common=common,
  )


def _common(job, state, split, asked) -> tuple[np.ndarray, np.ndarray]:
  image, text = job.objective.common_space()
  images, _, _ = encoder.encode(
    job, encoder.frozen(job, image)(state), split, _IMAGES
  )
  texts = encoder.encode_texts(job, encoder.frozen(job, text)(state), asked)
  return features.unit(images), features.unit(texts)


def _first(error: Exception) -> str:
  """The first line of an error, without its full stop."""
  lines = str(error).splitlines() or [repr(error)]
  return lines[0][:500].rstrip('.')
