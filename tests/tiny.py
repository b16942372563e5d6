"""A config that compiles fast, and a state that is not symmetric."""

import jax
import jax.numpy as jnp
import ml_collections

from configs import simclr_small
from contrastive_jax import build
from contrastive_jax.state import TrainState


def get_config(source: str = 'digits') -> ml_collections.ConfigDict:
  """SimCLR on 8 x 8 digits with two residual blocks, 64 images a step."""
  c = simclr_small.get_config(source)
  c.encoder.name = '_tiny'
  c.encoder.width = 8
  c.batch_size = 64
  c.objective.temperature = 0.5
  c.optimizer.name = 'lars'
  c.optimizer.base_learning_rate = 1.0
  c.augment.flip = 0.5
  c.steps = 4
  c.log.every_steps = 2
  c.checkpoint.every_steps = 2
  c.evaluation.batch_size = 128
  c.evaluation.probe_epochs = 5
  return c


config = get_config


def moved_state(job: build.Job) -> TrainState:
  """The initial state with every parameter moved off its initial value.

  Scales that begin at zero would hide the gradient of all that lies before.
  """
  state = build.init_state(job)
  leaves, tree = jax.tree.flatten(state.params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  leaves = [
    jax.device_put(
      p + 0.1 * jax.random.normal(k, p.shape, jnp.float32), p.sharding
    )
    for p, k in zip(leaves, keys, strict=True)
  ]
  return state.replace(params=jax.tree.unflatten(tree, leaves))
