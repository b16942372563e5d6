"""The state before the first step, with an encoder that has been trained."""

from typing import Any

import jax
import numpy as np

from contrastive_jax.evaluation import encoder as encoder_lib
from contrastive_jax.models import encoders
from contrastive_jax.training import build, zero
from contrastive_jax.training.state import TrainState
from contrastive_jax.weights import export, files, keymap, load


def with_weights(
  job: build.Job, state: TrainState
) -> tuple[TrainState, tuple[str, ...]]:
  """Returns the state with the encoder that `encoder.init` names.

  It takes the place of every copy of the encoder: of a target or a momentum
  network, too. Heads stay at random weights.

  Args:
    job: the parts; its `encoder.init` is not empty.
    state: before the first step.

  Returns:
    The state, on the same devices; and what was found and decided, one line
    each.

  Raises:
    Error: weights that do not fit, or no such file.
  """
  config = job.config
  module = encoders.make(config.encoder, job.run).module
  mine = export.arrays_of(job, zero.whole(state))
  shapes = {name: array.shape for name, array in mine.items()}
  kind, where = load.split_spec(config.encoder.init)
  found = None
  if kind == 'run':
    other, trained = encoder_lib.load(where)
    found = files.Found(
      'ours',
      export.arrays_of(other, trained),
      f'step {int(trained.step):,} of {other.config.objective.name}',
      [],
    )
  loaded = load.load(config.encoder, config.data, module, shapes, found)

  def put(node: Any, key: str = '') -> Any:
    if key == 'encoder':
      return jax.tree.map(_in_place, node, keymap.filled(node, loaded.arrays))
    if isinstance(node, dict):
      return {name: put(value, name) for name, value in node.items()}
    return node

  return (
    state.replace(params=put(state.params), model_state=put(state.model_state)),
    loaded.notes,
  )


def _in_place(array: jax.Array, value: np.ndarray) -> jax.Array:
  """Returns a value as an array of the same shape, type and devices."""
  value = np.asarray(value, array.dtype)
  assert value.shape == array.shape
  return jax.device_put(value, array.sharding)
