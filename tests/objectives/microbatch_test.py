"""Objectives have the same gradient with their encoder run in parts.

The parts know nothing of an objective: one of each kind stands for all, and
with_every_microbatch.py, run by hand, takes all of them.
"""

import jax
import numpy as np
import optax
import pytest

from contrastive_jax.config import Config, Error
from contrastive_jax.training import build, parity, step
from experiments import small_configs
from tests import tiny
from tests.objectives.contract_test import BOUND, MOVED_SEEDS, plain

IMAGES = 8  # of 64, in groups of as many for batch norm


def _config(name: str, microbatch: int = 0) -> Config:
  config: Config = tiny.config_of(name)
  config.microbatch = microbatch
  if 'vit' in config.encoder.name:
    config.encoder.drop_path = 0.3
  else:
    config.encoder.norm = f'ghost:{IMAGES}'
  return config


def check_gradient(name: str) -> None:
  """Compares one device's gradient with and without parts.

  Of the many places of VICRegL's maps one may stand at the kink of a ReLU, but
  for its last bit, which is another in parts: 1e-3 was seen, on one processor
  and not on another. In another state that is gone; a fault would not be.
  """
  # Where the difference is one of rounding, it is that between two devices.
  bound = max(2e-5, 2 * BOUND.get(name, 0))
  for seed in MOVED_SEEDS.get(name, (1,)):
    whole, parts = (
      parity.gradient_on(_config(name, images), 1, seed=seed)
      for images in (0, IMAGES)
    )
    worst = max(
      error
      for ours, theirs in zip(parts[:2], whole[:2], strict=True)
      for error in parity.relative_errors(ours, theirs)
    )
    if worst < bound:
      break
  assert worst < bound
  for metric, value in whole[2].items():
    np.testing.assert_allclose(
      parts[2][metric], value, rtol=1e-5, atol=1e-5, err_msg=metric
    )


@pytest.mark.parametrize(
  'name',
  [
    'simclr_small',
    'vicreg_small',
    'byol_small',
    'nnclr_small',
    'supcon_small',
    # Masked, visible and matched places.
    'dinov2_small',
    'mae_small',
    'vicregl_small',
    # Views that are no arrays, and dropout.
    'simcse_small',
  ],
)
def test_the_gradient_is_that_of_the_whole_batch(name):
  check_gradient(name)


def _after_three_steps(config, devices, mapping='shard_map'):
  job = build.build(config, step.make_mesh(jax.devices()[:devices]))
  job = job._replace(optimizer=optax.sgd(1e-3, momentum=0.9))
  train_step = step.mapped(
    step.make_train_step(job.objective, job.optimizer, job.modality),
    job.mesh,
    mapping,
    donate=False,
  )
  state, batches = parity.moved_state(job), build.train_batches(job, 0)
  for _ in range(3):
    (state, _), _ = train_step(state, next(batches))
  batches.close()
  return plain(jax.device_get(state))


# Shuffled keys, crops of two sizes, a teacher and a queue, drop path.
@pytest.mark.parametrize(
  'name',
  ['moco, symmetric', 'dino, local crops', 'swav, queue', 'dino_vit_small'],
)
def test_the_state_after_three_steps_is_that_of_one_device(name):
  one = _after_three_steps(_config(name), 1)
  eight = _after_three_steps(_config(name, IMAGES), 8)
  for part in ('params', 'model_state'):
    trees = [getattr(state, part) for state in (eight, one)]
    assert max(parity.relative_errors(*trees)) < 1e-5, part


def test_under_pmap_too():
  one, eight = (
    parity.gradient_on(_config('simclr_small', images), devices, 'pmap')[0]
    for images, devices in ((0, 1), (IMAGES, 8))
  )
  assert max(parity.relative_errors(eight, one)) < 1e-5


def _temporary_bytes(batch_size, microbatch):
  config = small_configs.load('simclr')
  config.encoder.name = '_tiny'
  config.encoder.width = 16
  config.encoder.norm = 'ghost:16'
  config.data.image_size = 16
  config.batch_size, config.microbatch = batch_size, microbatch
  job = build.build(config, step.make_mesh(jax.devices()[:1]))
  train_step = step.make_train_step(job.objective, job.optimizer, job.modality)
  state, batch = build.init_state(job), build.first_batch(job)
  mapped = step.over_shards(train_step, job.mesh, donate=False)
  compiled = mapped.lower(state, step.shard(batch, job.mesh)).compile()
  memory = compiled.memory_analysis()
  assert memory is not None
  return memory.temp_size_in_bytes


def test_memory_is_that_of_a_part():
  one, sixteen = _temporary_bytes(32, 32), _temporary_bytes(512, 32)
  assert sixteen < 1.1 * one
  assert _temporary_bytes(512, 0) > 5 * one


@pytest.mark.parametrize(
  ('fields', 'sentence'),
  [
    ({'microbatch': 3}, 'it has to divide the 32 images of a device'),
    ({'microbatch': 4, 'encoder.norm': 'global'}, 'over the global batch'),
    ({'microbatch': 4, 'encoder.norm': 'ghost:8'}, 'groups of 8 images'),
  ],
)
def test_what_is_refused_is_a_sentence(fields, sentence):
  config = tiny.get_config()
  config.update_from_flattened_dict(fields)
  mesh = step.make_mesh(jax.devices()[:2])
  with pytest.raises(Error, match=sentence):
    build.build(config, mesh)


def test_features_are_those_of_the_encoder():
  """Evaluation knows nothing of parts: inputs of another kind, any number."""
  whole, parts = (
    build.build(_config('simclr_small', images)) for images in (0, IMAGES)
  )
  state = build.init_state(parts)
  images = np.random.default_rng(0).uniform(size=(3, 8, 8, 1))
  ours, theirs = (
    job.objective.features(
      state.params, state.model_state, images.astype(np.float32)
    )
    for job in (parts, whole)
  )
  np.testing.assert_array_equal(ours, theirs)
