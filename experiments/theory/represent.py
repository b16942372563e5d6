"""Images at hand, and what makes features of them."""

import pathlib
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from contrastive_jax.data import pipeline
from contrastive_jax.data import split as split_lib
from contrastive_jax.data.split import Split
from contrastive_jax.evaluation import encoder, features
from contrastive_jax.training import build, step
from contrastive_jax.training.state import TrainState
from experiments.theory import changes

# Raw pixels of larger images are compared at this size.
_PIXELS_SIZE = 32

# uint8 [n, side, side, channels] to features [n, D].
Represent = Callable[[np.ndarray], np.ndarray]


def by_name(job: build.Job, workdir: pathlib.Path) -> dict[str, Represent]:
  """Returns what makes features of images, by the name of the representation.

  Args:
    job: of the work folder.
    workdir: with a checkpoint.

  Raises:
    FileNotFoundError: there is no checkpoint.
  """
  trained = encoder.restore(job, workdir)
  size = job.config.evaluation.batch_size * job.mesh.size
  make = encoder.frozen(job)

  def features_of(state) -> Represent:
    encode = make(state)
    return lambda images: features.extract(
      encode, _batches(images, size), mesh=job.mesh
    )[0]

  def pixels(images):
    side = images.shape[1]
    if side > _PIXELS_SIZE:
      boxes = np.tile([0, 0, side, side], (len(images), 1)).astype(np.int32)
      images = changes.resized(images, boxes, _PIXELS_SIZE, 'bilinear')
    return images.reshape(len(images), -1) / np.float32(255)

  return {
    'raw pixels': pixels,
    'untrained encoder': features_of(build.untrained_state(job)),
    'trained encoder': features_of(trained),
  }


def sample(job: build.Job, split: Split, limit: int) -> np.ndarray:
  """Returns images of a split as evaluation sees them, at random ones of many.

  Args:
    job: says how they are seen.
    split: of its source.
    limit: of their number.

  Returns:
    uint8 [n, side, side, channels].
  """
  if split.size > limit:
    ids = np.random.default_rng(0).permutation(split.size)[:limit]
    split = split_lib.subset(split, np.sort(ids), f'{limit} of them')
  data = job.config.data
  batches = pipeline.eval_batches(
    split,
    image_size=job.run.input_shape[0],
    crop=data.eval_crop,
    batch_size=job.config.evaluation.batch_size,
    interpolation=data.interpolation,
    antialias=data.antialias,
  )
  return np.concatenate([batch['input'][batch['mask']] for batch in batches])


def embeddings(
  job: build.Job, states: Iterable[TrainState], split: Split, limit: int
) -> list[list[np.ndarray]]:
  """Returns what the objective compares, of augmented views of images.

  Args:
    job: on one device.
    states: trained or not.
    split: whose images are augmented as in the run's epoch 0.
    limit: of the images, which are a multiple of the batch size; a batch at
      least.

  Returns:
    Of each state the embeddings of the first two views (or the one that there
    is), float32 [n, d] each; row i of each is of the same image.

  Raises:
    ValueError: the split has fewer images than a batch.
  """
  c = job.config
  batches = build.train_batches(
    job._replace(source=job.source._replace(train=split)), 0
  )
  count = max(1, min(limit, split.size) // c.batch_size)
  chosen = [next(batches) for _ in range(count)]
  batches.close()

  @jax.jit
  def of_batch(state, batch):
    _, (_, _, found) = job.objective.loss(
      state.params,
      state.model_state,
      step.seen(job.modality, batch),
      rng=jax.random.fold_in(state.rng, state.step),
      step=state.step,
      axis_name=None,
    )
    return found[:2]

  result = []
  for state in states:
    found = [jax.device_get(of_batch(state, batch)) for batch in chosen]
    views = zip(*found, strict=True)
    result.append([np.concatenate(view).astype(np.float32) for view in views])
  return result


def _batches(images: np.ndarray, size: int) -> Iterator[features.Batch]:
  """Batches of one size: the last is filled up."""
  for start in range(0, len(images), size):
    rows = np.arange(start, start + size)
    mask = rows < len(images)
    ids = np.where(mask, rows, 0).astype(np.int32)
    yield {'input': images[ids], 'id': ids, 'label': ids, 'mask': mask}
