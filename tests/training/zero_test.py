"""Parts of the state, one a device: the same run in a fraction of the bytes."""

import functools

import jax
import numpy as np
import pytest

from contrastive_jax import train
from contrastive_jax.config import Error
from contrastive_jax.evaluation import encoder
from contrastive_jax.training import build, memory, parity, step
from contrastive_jax.training.checkpoint import Checkpoints
from tests import tiny
from tests.objectives.contract_test import plain

# LARS and its norms of whole tensors; a teacher and clipped tensors; two
# networks of which one follows; a queue; layer-wise rates, by SGD: of a bias
# before batch norm Adam would make steps of what rounding leaves of a gradient
# of zero.
NAMES = {
  'simclr_small': {'optimizer.name': 'lars'},
  'dino_small': {'optimizer.clip_tensor_norm': 0.1},
  'byol_small': {'optimizer.name': 'larc'},
  'moco_small': {},
  'moco_v3_vit_small': {
    'optimizer.layer_decay': 0.7,
    'optimizer.name': 'sgd',
  },
  'lejepa_small': {'optimizer.clip_norm': 0.1},
}


def _config(name, sharding):
  config = tiny.config_of(name)
  # Wide enough that there are tensors worth a division.
  config.encoder.width = 16 if 'vit' in name else 32
  config.sharding = sharding
  config.update_from_flattened_dict(NAMES[name])
  return config


@functools.cache
def _after_three_steps(name, sharding):
  job = build.build(_config(name, sharding), step.make_mesh())
  train_step = build.train_step(job, donate=False)
  state = jax.device_put(
    parity.moved_state(job),
    jax.tree.map(lambda x: x.sharding, build.state_shapes(job)),
  )
  batches = build.train_batches(job, 0)
  for _ in range(3):
    (state, _), _ = train_step(state, next(batches))
  batches.close()
  return job, state


@pytest.mark.parametrize('name', NAMES)
def test_the_state_after_three_steps_is_that_without(name):
  # Of as many devices, for Adam makes much of the last bit of a gradient of
  # next to nothing; that eight are one is a contract of every objective.
  _, whole = _after_three_steps(name, 'replicated')
  job, parts = _after_three_steps(name, 'zero')
  ours, theirs = (plain(jax.device_get(state)) for state in (parts, whole))
  for part in ('params', 'model_state', 'opt_state'):
    trees = [getattr(state, part) for state in (ours, theirs)]
    assert max(parity.relative_errors(*trees)) < 1e-5, part
  # And it is in parts, after the step as before.
  shapes = build.state_shapes(job)
  for leaf, wanted in zip(
    jax.tree.leaves(parts.opt_state),
    jax.tree.leaves(shapes.opt_state),
    strict=True,
  ):
    assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
  whole, own = (
    sum(np.prod(shape(x)) for x in jax.tree.leaves(parts.opt_state))
    for shape in (np.shape, lambda x: x.sharding.shard_shape(x.shape))
  )
  assert own < 0.2 * whole


def test_a_checkpoint_does_not_know_the_parts(tmp_path):
  _, state = _after_three_steps('moco_small', 'zero')
  with Checkpoints(tmp_path, every_steps=1, keep=1) as checkpoints:
    checkpoints.save(3, state)
  job = build.build(
    _config('moco_small', 'replicated'), step.make_mesh(jax.devices()[:2])
  )
  with Checkpoints(tmp_path, every_steps=1, keep=1) as checkpoints:
    restored = checkpoints.restore(build.init_state(job))
  assert restored is not None and restored[1] == 3
  jax.tree.map(
    np.testing.assert_array_equal,
    plain(jax.device_get(restored[0])),
    plain(jax.device_get(state)),
  )


def test_a_run_trains_continues_and_is_evaluated(tmp_path):
  def config(steps):
    made = tiny.config_of('byol_small')
    made.sharding, made.steps = 'zero', steps
    made.evaluation.every_epochs = 0.01
    made.evaluation.baselines = False
    made.encoder.width = 32
    return made

  whole = train.pretrain(config(4), tmp_path / 'whole')
  first = config(4)
  first.checkpoint.every_steps = 2
  parts = tmp_path / 'parts'
  train.pretrain(first, parts)
  for path in (parts / 'checkpoints').iterdir():
    if path.name == '4':
      path.rename(tmp_path / 'put away')
  again = train.pretrain(first, parts)
  for name in ('loss', 'linear_accuracy', 'effective_rank'):
    assert again[name] == whole[name], name
  _, state = encoder.load(parts)
  assert all(x.is_fully_replicated for x in jax.tree.leaves(state.model_state))


def test_plan_counts_the_part_of_a_device():
  mesh = step.make_mesh()
  needs = {}
  for sharding in ('replicated', 'zero'):
    config = _config('byol_small', sharding)
    source = memory.stand_in(config, images=5, classes=2, channels=3)
    needs[sharding] = memory.needs(config, source, mesh)
  whole, parts = needs['replicated'], needs['zero']
  assert parts.parameters == whole.parameters
  assert parts.optimizer < 0.2 * whole.optimizer
  assert parts.state < 0.3 * whole.state


def test_small_and_odd_tensors_stay_whole():
  mesh = step.make_mesh()
  job = build.build(_config('simclr_small', 'zero'), mesh)
  shapes = build.state_shapes(job)
  for leaf in jax.tree.leaves((shapes.params, shapes.step, shapes.rng)):
    assert leaf.sharding.is_fully_replicated
  for leaf in jax.tree.leaves(shapes.opt_state):
    divided = leaf.sharding.shard_shape(leaf.shape) != leaf.shape
    worth = leaf.size >= 1024 and any(n % 8 == 0 for n in leaf.shape)
    assert divided == worth, leaf.shape


def test_pmap_is_refused():
  config = _config('simclr_small', 'zero')
  config.mapping = 'pmap'
  with pytest.raises(Error, match="takes mapping='shard_map', not pmap"):
    build.build(config)
