"""Is the gradient on several devices that of one? And that of a loss alone?"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.config import Config
from contrastive_jax.data.split import Source
from contrastive_jax.training import build, step
from contrastive_jax.training.state import TrainState

# Of the late state: steps done, and the share of the run that it stands at.
_STEPS, _LATE = 4, 0.9
# Of a loss alone.
_ROWS, _DIM = 64, 32


def gradient_on(
  config: Config,
  devices: int,
  mapping: str = 'shard_map',
  late: bool = False,
  *,
  source: Source | None = None,
  among: Any = None,
  seed: int = 1,
) -> tuple:
  """Returns gradient, model state and metrics of a run's first batch.

  Args:
    config: of any objective.
    devices: how many take part.
    mapping: 'shard_map' or 'pmap'.
    late: in `late_state`, not in `moved_state`.
    source: as of `build.build`.
    among: of which devices; None: the job's.
    seed: of `moved_state`.

  Returns:
    Three trees of NumPy arrays.
  """
  among = jax.devices() if among is None else among
  job = build.build(config, step.make_mesh(among[:devices]), source)
  gradient_fn = step.mapped(
    step.make_gradient_fn(job.objective, job.modality),
    job.mesh,
    mapping,
    donate=False,
  )
  state = moved_state(job, seed)
  if late:
    state = jax.device_put(late_state(config), NamedSharding(job.mesh, P()))
  return jax.device_get(gradient_fn(state, build.first_batch(job))[0])


def moved_state(job: build.Job, seed: int = 1) -> TrainState:
  """Returns the initial state, every parameter moved off its initial value.

  Scales that begin at zero would hide the gradient of all that lies before. A
  ViT at small weights has nearly one feature for all images, of whose
  differences batch norm makes large numbers, and of their rounding, too: it is
  moved further.

  Args:
    job: the parts.
    seed: of how far each parameter is moved.

  Returns:
    The state; the same for every number of devices.
  """
  state = build.init_state(job)
  leaves, tree = jax.tree.flatten(state.params)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  far = 0.4 if 'vit' in job.config.encoder.name else 0.1
  leaves = [
    jax.device_put(p + far * jax.random.normal(k, p.shape, p.dtype), p.sharding)
    for p, k in zip(leaves, keys, strict=True)
  ]
  return state.replace(params=jax.tree.unflatten(tree, leaves))


@functools.cache
def _late_state(config: ml_collections.FrozenConfigDict) -> TrainState:
  job = build.build(config, step.make_mesh(jax.devices()[:1]))
  job = job._replace(optimizer=optax.sgd(1e-3))
  train_step = step.mapped(
    step.make_train_step(job.objective, job.optimizer, job.modality),
    job.mesh,
    donate=False,
  )
  state = moved_state(job)
  batches = build.train_batches(job, 0)
  for _ in range(_STEPS):
    (state, _), _ = train_step(state, next(batches))
  batches.close()
  number = jnp.asarray(int(_LATE * job.run.total_steps), jnp.int32)
  return state.replace(step=number)


def late_state(config: Config) -> TrainState:
  """Returns a state from which all that begins late has begun.

  Args:
    config: of any objective; of a run long enough for that.

  Returns:
    `moved_state` after some steps of SGD on one device, which fill a queue of
    so many batches, at nine tenths of the run.
  """
  return _late_state(ml_collections.FrozenConfigDict(config))


def relative_errors(tree: Any, reference: Any) -> list[float]:
  """Returns ||a - b|| / ||b|| for each pair of leaves.

  Some tensors are zero but for rounding: the gradient of a bias before a
  normalization, say. So ||b|| counts as at least 1 % of the largest leaf's.

  Args:
    tree: of NumPy arrays, a.
    reference: b.

  Returns:
    One error a leaf; infinite where something is not finite.
  """
  pairs = list(
    zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True)
  )
  least = 0.01 * max((np.linalg.norm(b) for _, b in pairs), default=0.0)
  errors = [
    float(np.linalg.norm(a - b) / max(np.linalg.norm(b), least, 1e-12))
    for a, b in pairs
  ]
  # max() passes over NaN.
  return [error if np.isfinite(error) else np.inf for error in errors]


def error_of_loss(loss: Callable[..., Any], mesh: Mesh, seed: int = 0) -> float:
  """Returns how far a loss's gradient on a mesh is from that on one device.

  Args:
    loss: (z_a, z_b, axis_name=None or a name) -> a number, or a number and
      more; of embeddings [b, d] of two views. With a name, each replica has
      its rows of them, and the mean over replicas is to be the whole's loss.
    mesh: of `step.make_mesh`.
    seed: of the embeddings, and of the matrix that they are made with.

  Returns:
    ||g - g_1|| / ||g_1|| of that matrix's gradient.
  """
  rng = np.random.default_rng(seed)
  rows = -(-_ROWS // mesh.size) * mesh.size
  views = tuple(
    rng.normal(size=(rows, _DIM)).astype(np.float32) for _ in range(2)
  )
  matrix = np.eye(_DIM, dtype=np.float32)
  matrix += 0.1 * rng.normal(size=matrix.shape).astype(np.float32)

  def gradient(matrix, views, axis_name=None):
    def value(matrix):
      found = loss(*(x @ matrix for x in views), axis_name=axis_name)
      return jnp.mean(found[0] if isinstance(found, tuple) else found)

    return jax.grad(value)(matrix)

  def replica(matrix, views):
    matrix = jax.lax.pcast(matrix, step.AXIS, to='varying')
    return jax.lax.pmean(gradient(matrix, views, step.AXIS), step.AXIS)

  several = jax.jit(
    jax.shard_map(
      replica, mesh=mesh, in_specs=(P(), P(step.AXIS)), out_specs=P()
    )
  )
  with jax.default_matmul_precision('highest'):
    with jax.default_device(mesh.devices.flat[0]):
      one = jax.device_get(jax.jit(gradient)(matrix, views))
    (error,) = relative_errors(jax.device_get(several(matrix, views)), one)
  return error
