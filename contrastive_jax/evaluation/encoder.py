"""A run's frozen encoder, and what it says of a data set."""

import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from contrastive_jax.config import (
  Config,
  Error,
  MissingError,
  base,
  check_keys,
)
from contrastive_jax.data.split import Source, Split
from contrastive_jax.evaluation import features
from contrastive_jax.training import build, ranges, sidefiles, step
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.state import TrainState

Encoder = jax.tree_util.Partial

_TEXTS = 256  # that are encoded at a time, in Python

# Fields of earlier versions: what they set is fitted, or read, otherwise now.
_GONE = (('evaluation', 'probe_epochs'), ('data', 'shuffle_buffer'))


def load(
  workdir: str | pathlib.Path,
  step: int | None = None,
  source: Source | None = None,
) -> tuple[build.Job, TrainState]:
  """Returns the job of a work folder, and a checkpoint of it.

  Args:
    workdir: of `contrastive_jax.main`; nothing in it is changed.
    step: of the checkpoint; None: the newest intact one.
    source: of a run that was given its data in memory; None: config.data's.

  Returns:
    The job (on the devices of `fitting_mesh`, however many trained it) and
    the state.

  Raises:
    FileNotFoundError: no work folder, or no such checkpoint in it.
    ValueError: config.json is damaged, or the checkpoints are.
  """
  config = read_config(workdir)
  job = build.build(config, fitting_mesh(config), source, pathlib.Path(workdir))
  return job, restore(job, workdir, step)


def load_encoder(
  workdir: str | pathlib.Path,
  step: int | None = None,
  source: Source | None = None,
) -> Callable[[Any], np.ndarray]:
  """Returns the trained encoder of a run, as a function of images or texts.

  Args:
    workdir: of the run; nothing in it is changed.
    step: of the checkpoint; None: the newest intact one.
    source: of a run that was given its data in memory.

  Returns:
    A function from images [n, side, side, channels], of the run's image size,
    to features, float32 [n, d]. They are uint8, or, of a run on more than 8
    bits, float32 in [0, 1]; it raises Error for others, or of another shape.
    Of a run on text it is from a sequence of strings.

  Raises:
    Error: no work folder, or no such checkpoint in it.
  """
  job, state = load(workdir, step, source)
  encode_batch = frozen(job)(state)
  if len(job.run.input_shape) == 1:
    return functools.partial(encode_texts, job, encode_batch)
  shape, dtype = job.run.input_shape, np.dtype(job.source.train.dtype)

  def features_of(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.shape[1:] != shape or images.dtype != dtype:
      raise Error(
        f'images are {images.dtype} of shape {images.shape}: this encoder '
        f'takes {dtype} [n, {", ".join(map(str, shape))}]'
      )
    return np.asarray(features.call(encode_batch, images))

  return features_of


def encode_texts(
  job: build.Job, encoder: Encoder, texts: Sequence[str]
) -> np.ndarray:
  """Returns the features of texts, float32 [n, d].

  Args:
    job: of a run with text.
    encoder: of `frozen`.
    texts: at least one.

  Raises:
    Error: there is none, or one string alone.
  """
  assert job.modality.of_texts is not None
  if isinstance(texts, str) or not len(texts):
    raise Error('the encoder takes a sequence of texts, at least one')
  found = []
  for start in range(0, len(texts), _TEXTS):
    some = list(texts[start : start + _TEXTS])
    empty = features.power_of_two(len(some)) - len(some)
    rows = features.call(encoder, job.modality.of_texts([*some, *[''] * empty]))
    found.append(np.asarray(rows)[: len(some)])
  return np.concatenate(found)


def fitting_mesh(config: Config) -> jax.sharding.Mesh:
  """Returns a mesh of as many of the job's devices as divide its batch."""
  devices = jax.devices()
  count = len(devices)
  while config.batch_size % count:
    count -= 1
  return step.make_mesh(devices[:count])


def restore(
  job: build.Job, workdir: str | pathlib.Path, step: int | None = None
) -> TrainState:
  """Returns a checkpoint of a work folder.

  Args:
    job: of its config, on any devices.
    workdir: nothing in it is changed.
    step: of the checkpoint; None: the newest intact one.

  Raises:
    FileNotFoundError: there is no checkpoint, or not this one.
    ValueError: the checkpoints are damaged.
  """
  folder = pathlib.Path(workdir) / 'checkpoints'
  restored, kept = None, []
  if folder.is_dir():  # Orbax would make it
    with Checkpoints(folder, every_steps=1, keep=10**6) as checkpoints:
      # Shapes are enough: nothing is compiled for an initial state.
      restored = checkpoints.restore(jax.eval_shape(build.make_init(job)), step)
      kept = checkpoints.steps()
  if restored is None and kept:
    raise MissingError(
      f'{workdir} has no checkpoint of step {step}; it has kept those of '
      + ', '.join(map(str, kept))
    )
  if restored is None:
    raise MissingError(
      f'there is no checkpoint yet in {workdir}: the run writes one every '
      f'{job.config.checkpoint.every_steps:,} steps'
    )
  return restored[0]


def read_config(workdir: str | pathlib.Path) -> ml_collections.ConfigDict:
  """Returns the resolved config of a work folder.

  Args:
    workdir: of `contrastive_jax.main`.

  Returns:
    The config, without what belongs to the machine.

  Raises:
    FileNotFoundError: there is no config.json.
    ValueError: it is damaged.
  """
  path = pathlib.Path(workdir) / 'config.json'
  if not path.exists():
    raise MissingError(
      f'{workdir} is not a work folder: there is no config.json in it'
    )
  fields = sidefiles.read_object(path)
  if 'run' not in fields:
    raise Error(f'{path} is damaged (it does not say how long the run is)')
  del fields['run']
  try:
    for part, field in _GONE:
      fields.get(part, {}).pop(field, None)
    config = ml_collections.ConfigDict(fields)
    _fill(config, base())
    config.sharding = 'replicated'  # nothing is updated here
    check_keys(config)
    ranges.check(config)
  except (ValueError, TypeError, AttributeError, KeyError) as error:
    raise Error(f'{path} is damaged ({error})') from error
  return config


def _fill(config, defaults) -> None:
  """Adds fields that came after the run: their default is what it did."""
  for key, value in defaults.items():
    if key not in config:
      config[key] = value
    elif isinstance(value, ml_collections.ConfigDict):
      _fill(config[key], value)


def frozen(
  job: build.Job, layer: str = 'encoder'
) -> Callable[[TrainState], Encoder]:
  """Returns what makes an encoder of a state; all of them compile once.

  Args:
    job: whose objective says which part of the state is the encoder.
    layer: 'encoder', or the name of a head behind it: its output instead.

  Returns:
    A function from a state to a function from uint8 images to features.

  Raises:
    Error: the objective has no such head.
  """
  objective = job.objective
  known = {**objective.modules, **objective.text_modules}
  if layer != 'encoder' and layer not in known:
    heads = ', '.join(name for name in known if name != 'encoder')
    raise Error(
      f'{job.config.objective.name} has no {layer}; behind its encoder there '
      f'is: {heads or "nothing that it names"}'
    )
  features_of = objective.layer(layer)

  def represent(params, model_state, inputs):
    return features_of(params, model_state, job.modality.frozen_input(inputs))

  return lambda state: jax.tree_util.Partial(
    represent, *job.objective.evaluated(state.params, state.model_state)
  )


def encode(
  job: build.Job,
  encoder: Encoder,
  split: Split,
  limit: int | None = None,
  texts: bool = False,
) -> features.Rows:
  """Returns the features of a split, computed once.

  Args:
    job: for the size of the images, and the devices.
    encoder: of `frozen`.
    split: of any source with as many channels.
    limit: only the first so many images.
    texts: of the texts beside the images, by the text tower.

  Returns:
    Features float32 [N, D], labels int32 [N], ids int32 [N], in id order.
  """
  batches = _batches(job, eval_batches(job, texts), split, limit)
  return features.extract(encoder, batches, mesh=job.mesh)


def eval_batches(job: build.Job, texts: bool) -> Callable[..., Any]:
  """Returns what makes the batches of images, or of the texts beside them.

  Args:
    job: of the run.
    texts: see `encode`.

  Raises:
    Error: there are no texts beside its examples.
  """
  if not texts:
    return job.modality.eval_batches
  if job.modality.text_batches is None:
    raise Error(f'{job.config.objective.name} has no tower of text')
  return job.modality.text_batches


def fingerprint(encoder: Encoder) -> str:
  """Returns a hash of an encoder's parameters: is it the same one as before?

  Args:
    encoder: of `frozen`.
  """
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(encoder):
    digest.update(np.ascontiguousarray(features.addressable(leaf)).data)
  return digest.hexdigest()


def assert_frozen(job: build.Job, encoder: Encoder) -> None:
  """Checks that evaluation runs in evaluation mode.

  Args:
    job: whose training images are used.
    encoder: of `frozen`.

  Raises:
    RuntimeError: an image's features depend on the batch that it is in.
  """
  batches = _batches(job, job.modality.eval_batches, job.source.train)
  features.assert_frozen(encoder, next(batches)['input'])


def baseline(
  job: build.Job, split: Split, limit: int | None = None
) -> features.Rows:
  """Returns what `modality.baseline` names as features: no encoder.

  Args:
    job: for the size.
    split: of any source.
    limit: only the first so many images.

  Returns:
    As `encode`.
  """
  _, make = job.modality.baseline
  return features.flattened(_batches(job, make, split, limit))


def batch_size(job: build.Job, images: int) -> int:
  """Returns the images of an evaluation batch, of all processes together.

  So many a device as the config says, and no more than there are images, about.

  Args:
    job: whose config and devices.
    images: of the split.
  """
  devices = job.mesh.size
  # Two rows are the least in which `assert_frozen` can tell something.
  some = max(
    min(
      job.config.evaluation.batch_size * devices, features.power_of_two(images)
    ),
    2 * jax.process_count(),
  )
  return -(-some // devices) * devices


def _batches(
  job: build.Job,
  make: Callable[..., Any],
  split: Split,
  limit: int | None = None,
):
  images = split.size if limit is None else min(limit, split.size)
  return make(
    split,
    batch_size=batch_size(job, images),
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    limit=limit,
  )
