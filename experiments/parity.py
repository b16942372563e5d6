"""The gradient on several devices against that of one: relative errors.

  python -m experiments.parity --config=configs/simclr_small.py:digits
  python -m experiments.parity --all

Prints, for shard_map and pmap on 2, 4 and 8 simulated devices, the largest
relative error ||g - g_1|| / ||g_1|| over all parameter tensors and over two
states: at the start of the run, and late in it, where a queue is in use and a
teacher warm. ||g_1|| counts as at least 1 % of the largest tensor's. The batch
is the first of the run; its size is the config's. --all takes every
configs/*_small.py on digits, with two residual blocks and 64 images a batch,
and the options of small_configs.py.

An activation that rounding puts on the other side of a ReLU's kink makes a jump
of 1e-3 or so in the gradient, though not in the loss: with millions of
activations that is a matter of chance. Parameters changed in their last bit, on
one device, make the same jump (seen once, of 0.9 %: crops that are all zero sit
at one kink together); a mistake does not depend on the last bit.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import app, flags
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import config_flags

from contrastive_jax.commands import command_line
from contrastive_jax.config import Config
from contrastive_jax.training import build, step
from contrastive_jax.training.state import TrainState
from experiments import small_configs

# Of the late state: steps done, and the share of the run that it stands at.
_STEPS, _LATE = 4, 0.9
# Mapping and devices.
COLUMNS = [(m, n) for m in ('shard_map', 'pmap') for n in (2, 4, 8)]


def gradient_on(
  config: Config, devices: int, mapping: str, late: bool = False
) -> tuple:
  """Returns gradient, model state and metrics of a run's first batch.

  Args:
    config: of any objective.
    devices: how many of the job's devices take part.
    mapping: 'shard_map' or 'pmap'.
    late: in `late_state`, not in `moved_state`.

  Returns:
    Three trees of NumPy arrays.
  """
  job = build.build(config, step.make_mesh(jax.devices()[:devices]))
  gradient_fn = step.mapped(
    step.make_gradient_fn(job.objective, job.modality),
    job.mesh,
    mapping,
    donate=False,
  )
  state = moved_state(job)
  if late:
    state = jax.device_put(late_state(config), NamedSharding(job.mesh, P()))
  return jax.device_get(gradient_fn(state, build.first_batch(job))[0])


def moved_state(job: build.Job) -> TrainState:
  """Returns the initial state, every parameter moved off its initial value.

  Scales that begin at zero would hide the gradient of all that lies before. A
  ViT at small weights has nearly one feature for all images, of whose
  differences batch norm makes large numbers, and of their rounding, too: it is
  moved further.

  Args:
    job: the parts.

  Returns:
    The state; the same for every number of devices.
  """
  state = build.init_state(job)
  leaves, tree = jax.tree.flatten(state.params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
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
    One error a leaf.
  """
  pairs = list(
    zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True)
  )
  least = 0.01 * max((np.linalg.norm(b) for _, b in pairs), default=0.0)
  return [
    float(np.linalg.norm(a - b) / max(np.linalg.norm(b), least, 1e-12))
    for a, b in pairs
  ]


def errors(config: Config) -> list[float]:
  """Returns the largest error for each column of the table."""
  largest = [0.0] * len(COLUMNS)
  for late in (False, True):
    one, _, _ = gradient_on(config, 1, 'shard_map', late)
    for i, (mapping, devices) in enumerate(COLUMNS):
      gradient, _, _ = gradient_on(config, devices, mapping, late)
      largest[i] = max(largest[i], *relative_errors(gradient, one))
  return largest


def main(configs: dict[str, Config]) -> None:
  """Prints a line a config, in Markdown."""
  head = [f'{mapping}, {devices}' for mapping, devices in COLUMNS]
  print('| | ' + ' | '.join(head) + ' |')
  print('|' + '---|' * (len(COLUMNS) + 1))
  for name, config in configs.items():
    cells = [f'{error:.1e}' for error in errors(config)]
    print(f'| {name} | ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
  command_line.set_up_cpu(8)
  # Here, so that importing this module defines no flag.
  holder = config_flags.DEFINE_config_file('config', 'configs/simclr_small.py')
  every = flags.DEFINE_bool('all', False, 'Every configs/*_small.py.')
  app.run(
    lambda argv: main(
      small_configs.all_tiny()
      if every.value
      else {holder.value.objective.name: holder.value}
    )
  )
