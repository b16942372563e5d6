"""The train step: the one place that knows devices.

`train_step(state, batch) -> (state, metrics), embeddings` is pure and written
for one replica, against one named axis. `mapped` runs it over a mesh: one
program, one all-reduce a parameter, on 1 or 1,000 devices, in one or several
processes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.config import Error
from contrastive_jax.data.modalities import Modality
from contrastive_jax.objectives import Objective
from contrastive_jax.training.state import TrainState

AXIS = 'replica'


def make_mesh(devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
  """Returns a mesh of one axis over `devices` (default: all of the job's).

  In their own order: a process's devices stay side by side, as its rows of the
  batch do. `jax.make_mesh` may order them by the wiring, and refuses devices of
  more than one slice or GPU node.
  """
  devices = jax.devices() if devices is None else devices
  return jax.sharding.Mesh(
    np.asarray(devices), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,)
  )


def seen(modality: Modality, batch: dict[str, Any]) -> dict[str, Any]:
  """Returns what an objective sees of a batch: see `Objective`.

  Args:
    modality: makes the views.
    batch: of one replica.
  """
  found = {key: batch[key] for key in ('label', 'id', 'epoch')}
  found['views'] = modality.views(batch)
  if modality.places is not None:
    found['places'] = modality.places(batch)
  return found


def make_gradient_fn(
  objective: Objective, modality: Modality
) -> Callable[..., Any]:
  """Returns the function of one replica's gradient.

  It maps (state, batch) to (gradient, model_state, metrics), embeddings. The
  gradient is that of the whole batch's loss; all but the embeddings, which are
  this replica's, are the same on every replica.

  Args:
    objective: what is minimized.
    modality: makes the views of a batch.

  Returns:
    A function to be mapped over the axis AXIS.
  """

  def gradient_fn(state: TrainState, batch: dict[str, Any]):
    found = seen(modality, batch)
    # The same key on every replica: randomness may not depend on how many
    # there are. What is drawn per example is drawn from the example's id.
    rng = jax.random.fold_in(state.rng, state.step)
    params = _varying(state.params)

    def loss_fn(params):
      return objective.loss(
        params,
        state.model_state,
        found,
        rng=rng,
        step=state.step,
        axis_name=AXIS,
      )

    (loss, (model_state, metrics, embeddings)), gradient = jax.value_and_grad(
      loss_fn, has_aux=True
    )(params)
    unreadable = jnp.mean(batch['replaced'].astype(jnp.float32))
    gradient, metrics = _replica_mean(
      (gradient, {'loss': loss, 'unreadable': unreadable, **metrics})
    )
    return (gradient, model_state, metrics), embeddings

  return gradient_fn


def make_train_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  modality: Modality,
  gradient_fn: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
  """Returns train_step(state, batch) -> (state, metrics), embeddings.

  Args:
    objective: what is minimized.
    optimizer: how.
    modality: see `make_gradient_fn`.
    gradient_fn: in place of it, where the gradient alone is mapped.

  Returns:
    A pure function to be mapped over the axis AXIS: `mapped`.
  """
  gradient_fn = gradient_fn or make_gradient_fn(objective, modality)

  def train_step(state: TrainState, batch: dict[str, Any]):
    (gradient, model_state, metrics), embeddings = gradient_fn(state, batch)
    updates, opt_state = optimizer.update(
      gradient, state.opt_state, state.params
    )
    params = objective.project(optax.apply_updates(state.params, updates))
    metrics['gradient_norm'] = optax.tree.norm(gradient)
    state = state.replace(
      step=state.step + 1,
      params=params,
      model_state=objective.after_update(params, model_state, state.step),
      opt_state=opt_state,
    )
    return (state, metrics), embeddings

  return train_step


def mapped(
  step_fn: Callable[..., Any],
  mesh: jax.sharding.Mesh,
  mapping: str = 'shard_map',
  *,
  donate: bool = True,
) -> Callable[..., Any]:
  """Returns step_fn compiled for the mesh: (state, local batch) -> outputs.

  Args:
    step_fn: (state, batch) -> (alike, rows), per replica: what is the same on
      every replica, and what has one row an example.
    mesh: of one axis, AXIS.
    mapping: 'shard_map', or 'pmap' (the older way; the same numbers).
    donate: whether the state's memory is reused; it may not be read again.

  Returns:
    A function of the state (replicated) and of this process's rows of the
    batch as NumPy arrays. The rows that it returns are spread over the mesh,
    [B, ...], under pmap [devices, B / devices, ...].

  Raises:
    ValueError: unknown mapping.
  """
  donated = (0,) if donate else ()
  if mapping == 'shard_map':
    compiled = over_shards(step_fn, mesh, donate=donate)
    return lambda state, batch: compiled(state, shard(batch, mesh))
  if mapping == 'pmap':
    compiled = jax.pmap(
      step_fn,
      axis_name=AXIS,
      in_axes=(None, 0),
      out_axes=(None, 0),
      devices=list(mesh.devices.flat),
      donate_argnums=donated,
    )
    local = len(mesh.local_devices)

    def by_device(x):
      return x.reshape(local, x.shape[0] // local, *x.shape[1:])

    return lambda state, batch: compiled(state, jax.tree.map(by_device, batch))
  raise Error(f"mapping is 'shard_map' or 'pmap', not {mapping!r}")


def over_shards(
  step_fn: Callable[..., Any], mesh: jax.sharding.Mesh, *, donate: bool
) -> Any:
  """Returns `mapped` under shard_map as a jitted function of global arrays.

  Args:
    step_fn: see `mapped`.
    mesh: of one axis, AXIS.
    donate: see `mapped`.

  Returns:
    A function of the state and of a batch spread over the mesh, as `shard`
    makes it, which can be lowered.
  """
  return jax.jit(
    jax.shard_map(
      step_fn, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=(P(), P(AXIS))
    ),
    donate_argnums=(0,) if donate else (),
  )


def shard(batch: Any, mesh: jax.sharding.Mesh) -> Any:
  """Returns global arrays of which this process's rows are `batch`.

  Args:
    batch: pytree of NumPy arrays [b, ...], b divisible by the process's
      devices.
    mesh: the mesh of `make_mesh`.

  Returns:
    Arrays split over the mesh along the first axis.
  """
  sharding = NamedSharding(mesh, P(AXIS))
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    batch,
  )


@functools.cache
def everywhere(mesh: jax.sharding.Mesh) -> Callable[[Any], Any]:
  """Returns what puts a tree of arrays on every device, whole.

  Args:
    mesh: of `make_mesh`. All of its processes have to make the call.
  """
  # Not device_put: the parts may be those of several processes.
  return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, P()))


def _varying(params: Any) -> Any:
  """Casts replicated parameters to one value a replica, once for all uses.

  Under shard_map's check, the gradient of a replicated value comes summed over
  replicas, and a pmean of it does nothing: N times the gradient. After this
  cast the local gradient is local, under shard_map (checked or not) and pmap
  alike, and is reduced once, however often a parameter is used.
  """
  return jax.lax.pcast(params, AXIS, to='varying')


def _replica_mean(tree: Any) -> Any:
  """Means of floats; integers are alike on all replicas and are kept."""
  return jax.tree.map(
    lambda x: (
      jax.lax.pmean(x, AXIS)
      if jnp.issubdtype(x.dtype, jnp.inexact)
      else jax.lax.pmax(x, AXIS)
    ),
    tree,
  )
