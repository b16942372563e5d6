"""The encoders of a run: one, or one of images and one of the texts beside."""

from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from contrastive_jax.config import Error
from contrastive_jax.data.split import Split
from contrastive_jax.evaluation import encoder as encoder_lib
from contrastive_jax.models import encoders
from contrastive_jax.training import build
from contrastive_jax.training.state import TrainState
from contrastive_jax.weights.keymap import Arrays

NAMES = ('encoder', 'text_encoder')


class Tower(NamedTuple):
  """An encoder of a run.

  Attributes:
    name: of the part of the parameters that it is, and of the config's.
    config: that part of the config.
    module: of Flax.
    beside: whether it reads the texts beside images.
    reads_text: whether it reads text: beside images, or alone.
  """

  name: str
  config: Any
  module: Any
  beside: bool
  reads_text: bool


def of(job: build.Job, name: str = 'encoder') -> Tower:
  """Returns an encoder of a run.

  Args:
    job: of the run.
    name: one of `NAMES`.

  Raises:
    Error: it has no such encoder.
  """
  if name not in NAMES:
    raise Error(f'there is no tower {name}: it may be {" or ".join(NAMES)}')
  config, run = job.config[name], job.run
  beside = name != 'encoder'
  if beside:
    if name not in job.objective.text_modules:
      raise Error(f'{job.config.objective.name} has no tower of text')
    run = run._replace(input_shape=(job.config.text.max_length,))
  module = encoders.make(config, run).module
  return Tower(name, config, module, beside, len(run.input_shape) == 1)


def before(job: build.Job, layer: str) -> Tower:
  """Returns the encoder that a layer is, or that a head lies behind.

  Args:
    job: of the run.
    layer: one of the names in the objective's modules, or 'encoder'.
  """
  text = job.objective.text_modules
  return of(job, next(iter(text)) if layer in text else 'encoder')


def arrays_of(
  job: build.Job, state: TrainState, name: str = 'encoder'
) -> Arrays:
  """Returns parameters and statistics of an evaluated encoder, by name.

  Args:
    job: of the state.
    state: on any devices.
    name: of the encoder.

  Raises:
    Error: the objective, one from outside, has no part of that name.
  """
  params, model_state = job.objective.evaluated(state.params, state.model_state)
  try:
    parts = params[name], model_state['batch_stats'][name]
  except (KeyError, TypeError):
    raise Error(
      f'{job.config.objective.name} has no {name} in its parameters and its '
      'batch_stats: there is nothing to export'
    ) from None
  arrays: Arrays = {}
  for part in map(jax.device_get, parts):
    named = traverse_util.flatten_dict(part, sep='/')
    arrays |= {name: np.asarray(array) for name, array in named.items()}
  return arrays


def split(job: build.Job) -> Split:
  """Returns the split that an encoder is tried on: test, if there is one."""
  return job.source.test or job.source.train


def inputs(job: build.Job, tower: Tower, count: int) -> Any:
  """Returns the first examples of that split, as evaluation has them.

  Args:
    job: of the run.
    tower: of it.
    count: how many, at most.
  """
  batches = encoder_lib.eval_batches(job, tower.beside)(
    split(job),
    batch_size=count,
    process_index=0,
    process_count=1,
    limit=count,
  )
  batch = next(iter(batches))
  mask = np.asarray(batch['mask'])
  found = jax.tree.map(lambda x: np.asarray(x)[mask], batch['input'])
  if tower.reads_text:
    # As long as a sentence may be: others follow these.
    lack = job.config.text.max_length - found['tokens'].shape[1]
    found['tokens'] = np.pad(found['tokens'], [(0, 0), (0, lack)])
  return found
