"""The state before the first step, with an encoder that has been trained."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from contrastive_jax.config import Config, Error
from contrastive_jax.data import readers
from contrastive_jax.data.split import Source, Split
from contrastive_jax.evaluation import encoder as encoder_lib
from contrastive_jax.models import encoders
from contrastive_jax.training import build, sidefiles, zero
from contrastive_jax.training.state import TrainState
from contrastive_jax.weights import files, hints, keymap, load, towers


def with_weights(
  job: build.Job, state: TrainState
) -> tuple[TrainState, tuple[str, ...]]:
  """Returns the state with the encoders that the fields `init` name.

  One takes the place of every copy of it: of a target or a momentum network,
  too. Heads stay at random weights.

  Args:
    job: the parts; `encoder.init` or `text_encoder.init` is not empty.
    state: before the first step.

  Returns:
    The state, on the same devices; and what was found and decided, one line
    each.

  Raises:
    Error: weights that do not fit, or no such file.
  """
  notes: tuple[str, ...] = ()
  for name in towers.NAMES:
    if job.config[name].init:
      state, found = _with_weights(job, state, towers.of(job, name))
      notes += found
  return state, notes


def _with_weights(
  job: build.Job, state: TrainState, tower: towers.Tower
) -> tuple[TrainState, tuple[str, ...]]:
  mine = towers.arrays_of(job, zero.whole(state), tower.name)
  shapes = {name: array.shape for name, array in mine.items()}
  kind, where = load.split_spec(tower.config.init)
  found = theirs = None
  if kind == 'run':
    other, trained = encoder_lib.load(where, source=_absent(where))
    # A tower of text may come from a run of text alone.
    both = bool(other.objective.text_modules)
    if tower.reads_text:
      there = other.config.text_encoder if both else other.config.encoder
      _check_text(job, tower, other.modality.files, there, where)
    else:
      theirs = hints.Theirs(
        towers.of(other).module, other.config.data.mean, other.config.data.std
      )
    found = files.Found(
      'ours',
      towers.arrays_of(other, trained, tower.name if both else 'encoder'),
      f'step {int(trained.step):,} of {other.config.objective.name}',
      [],
    )
  elif tower.reads_text:
    _check_text_beside(job, tower, pathlib.Path(where).parent)
  else:
    theirs = _theirs_beside(job, pathlib.Path(where))
  loaded = load.load(
    tower.config,
    job.config.data,
    tower.module,
    shapes,
    found,
    tower.name,
    theirs,
  )

  def put(node: Any, key: str = '') -> Any:
    if key == tower.name:
      return jax.tree.map(_in_place, node, keymap.filled(node, loaded.arrays))
    if isinstance(node, dict):
      return {name: put(value, name) for name, value in node.items()}
    return node

  return (
    state.replace(params=put(state.params), model_state=put(state.model_state)),
    loaded.notes,
  )


def _absent(workdir: str) -> Source | None:
  """Returns a source that stands for a run's images, which may be gone.

  For who wants its weights alone: none of its images can be read.

  Args:
    workdir: of the run.

  Returns:
    As many images of the same shape and classes; None of a run with texts.

  Raises:
    ValueError, FileNotFoundError: as of `read_config`.
  """
  config: Config = encoder_lib.read_config(workdir)
  run = sidefiles.read_object(pathlib.Path(workdir) / 'config.json')['run']
  try:
    side, _, channels = run['input_shape']
    size, classes = run['num_examples'], run['num_classes']
  except (KeyError, TypeError, ValueError):
    return None  # of sentences
  if config.text_encoder.name:
    return None
  maximum = config.data.maximum
  dtype = np.float32 if maximum else np.uint8
  split = Split(
    name=config.data.source,
    size=size,
    channels=channels,
    reader=readers.InMemory(np.zeros((0, side, side, channels), dtype)),
    num_classes=classes,
    maximum=maximum,
    image_shape=(side, side),
  )
  return Source(config.data.source, split, split)


def _theirs_beside(job: build.Job, path: pathlib.Path) -> hints.Theirs | None:
  """Returns what lies beside weights of images that were exported here."""
  sidecar = path.with_name('encoder.json')
  if not sidecar.exists():
    return None
  fields = sidefiles.read_object(sidecar)
  if fields.get('file') != path.name:
    return None  # somebody else's
  try:
    given = fields['input']
    config = ml_collections.ConfigDict(fields['encoder'])
    run = job.run._replace(
      input_shape=(given['side'], given['side'], given['channels'])
    )
    module = encoders.make(config, run).module
    return hints.Theirs(module, given['mean'], given['std'])
  except (KeyError, TypeError, AttributeError, ValueError) as error:
    raise Error(f'{sidecar} is not that of an encoder ({error})') from None


def _check_text_beside(
  job: build.Job, tower: towers.Tower, folder: pathlib.Path
) -> None:
  """Checks weights that were exported here: what they are lies beside them."""
  sidecar = folder / 'encoder.json'
  if not sidecar.exists():
    return  # somebody else's
  fields = sidefiles.read_object(sidecar)
  try:
    files = {
      name: (folder / name).read_text(encoding='utf-8')
      for name in fields['input']['tokenizer'].split(', ')
    }
    _check_text(job, tower, files, fields['encoder'], str(folder))
  except (KeyError, TypeError, AttributeError, OSError) as error:
    raise Error(f'{sidecar} is not that of a tower of text ({error})') from None


def _check_text(
  job: build.Job,
  tower: towers.Tower,
  files: Mapping[str, str],
  theirs: Mapping[str, Any],
  where: str,
) -> None:
  """Refuses weights that know other tokens, or read in another direction."""
  for name, text in files.items():
    if job.modality.files.get(name) != text:
      raise Error(
        f'{where} has a tokenizer of its own, to which its weights belong: set '
        f'text.tokenizer={where}/{name}'
      )
  for field in ('causal', 'pool'):
    if tower.config[field] != theirs[field]:
      raise Error(
        f'{where} was trained with {field}={theirs[field]}: set '
        f'{tower.name}.{field} to that'
      )


def _in_place(array: jax.Array, value: np.ndarray) -> jax.Array:
  """Returns a value as an array of the same shape, type and devices."""
  value = np.asarray(value, array.dtype)
  assert value.shape == array.shape
  return jax.device_put(value, array.sharding)
