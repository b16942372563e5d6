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


def places(state: TrainState, mesh: Mesh) -> TrainState:
  """Returns where each leaf of a state lives.

  Args:
    state: or its shapes.
    mesh: of `step.make_mesh`.

  Returns:
    A tree of shardings. Parameters, step and key are whole on every device;
    the rest is in parts along the longest axis that divides by the devices.
  """
  whole = NamedSharding(mesh, P())

  def of(leaf):
    axes = [i for i, n in enumerate(leaf.shape) if n % mesh.size == 0]
    if not axes or np.prod(leaf.shape) < _LEAST:
      return whole
    axis = max(axes, key=lambda i: leaf.shape[i])
    return NamedSharding(mesh, P(*[None] * axis, step.AXIS))

  everywhere = jax.tree.map(lambda _: whole, state)
  return everywhere.replace(
    opt_state=jax.tree.map(of, state.opt_state),
    model_state=jax.tree.map(of, state.model_state),
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
  gradient_fn = jax.shard_map(
    step.make_gradient_fn(objective, modality),
    mesh=mesh,
    in_specs=(P(), P(step.AXIS)),
    out_specs=(P(), P(step.AXIS)),
  )
  update = step.make_train_step(objective, optimizer, modality, gradient_fn)

  def constrained(state, batch):
    (new, metrics), embeddings = update(state, batch)
    new = jax.lax.with_sharding_constraint(new, places(new, mesh))
    return (new, metrics), embeddings

  return constrained


def whole(state: Any) -> Any:
  """Returns a state of which every device has all, as evaluation takes it.

  Args:
    state: of either kind.
  """

  def of(leaf):
    sharding = leaf.sharding
    if sharding.is_fully_replicated or not isinstance(sharding, NamedSharding):
      return leaf
    everywhere = NamedSharding(sharding.mesh, P())
    # Not by device_put: the parts may be those of several processes.
    return jax.jit(lambda x: x, out_shardings=everywhere)(leaf)

  return jax.tree.map(of, state)
