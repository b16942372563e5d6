"""Optimizer state and moving averages in parts, one a device.

`sharding='zero'` keeps what only the update needs in R parts, as stage 1 of
Rajbhandari et al. 2020 (ZeRO, 1910.02054) does: momenta and second moments, and
copies of the encoder that follow it. The gradient is computed as always, by
the step of one replica. The update stands outside of its mapping, written for
whole tensors: XLA makes each device do its part of it, gathers the parameters
once, and takes norms (LARS, clipping) over whole tensors.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.training import step
from contrastive_jax.training.state import TrainState

# Smaller tensors stay whole: to gather them takes longer than they are worth.
_LEAST = 1024  # values
# The objectives' name, in their model_state, for a network that is a moving
# average of the encoder and its heads.
_FOLLOWS = 'target'


def places(state: TrainState, mesh: Mesh) -> TrainState:
  """Returns where each leaf of a state lives.

  Args:
    state: or its shapes.
    mesh: of `step.make_mesh`.

  Returns:
    A tree of shardings. The optimizer's state and the network that follows are
    in parts, each tensor along the longest axis that divides by the devices;
    all else is whole on every device.
  """
  whole = NamedSharding(mesh, P())

  def of(leaf):
    axes = [i for i, n in enumerate(leaf.shape) if n % mesh.size == 0]
    if not axes or np.prod(leaf.shape) < _LEAST:
      return whole
    axis = max(axes, key=lambda i: leaf.shape[i])
    return NamedSharding(mesh, P(*[None] * axis, step.AXIS))

  def in_parts(tree):
    return jax.tree.map(of, tree)

  everywhere = jax.tree.map(lambda _: whole, state)
  held = everywhere.model_state
  if _FOLLOWS in state.model_state:
    held = {**held, _FOLLOWS: in_parts(state.model_state[_FOLLOWS])}
  return everywhere.replace(
    opt_state=in_parts(state.opt_state), model_state=held
  )


def train_step(
  objective: Any, optimizer: Any, modality: Any, mesh: Mesh
) -> Callable[..., Any]:
  """Returns `step.make_train_step` over global arrays, to be jitted.

  Args:
    objective: as of `step.make_train_step`, and so are the next two.
    optimizer: how.
    modality: makes the views.
    mesh: of `step.make_mesh`.
  """
  gradient_fn = step.over_shards(
    step.make_gradient_fn(objective, modality), mesh, donate=False
  )
  update = step.make_train_step(objective, optimizer, modality, gradient_fn)

  def constrained(state, batch):
    (new, metrics), embeddings = update(state, batch)
    new = jax.lax.with_sharding_constraint(new, places(new, mesh))
    return (new, metrics), embeddings

  return constrained


def whole(state: TrainState) -> TrainState:
  """Returns what evaluation takes of a state, all of it on every device.

  Args:
    state: of either kind; all processes have to call this.

  Returns:
    A state without the optimizer's, unless nothing is in parts.
  """
  placed = [leaf.sharding for leaf in jax.tree.leaves(state)]
  if all(sharding.is_fully_replicated for sharding in placed):
    return state
  mesh = next(x.mesh for x in placed if isinstance(x, NamedSharding))
  return step.everywhere(mesh)(state.replace(opt_state=()))
