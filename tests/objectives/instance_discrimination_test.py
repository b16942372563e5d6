import math

import jax
import numpy as np
import pytest

from contrastive_jax import keys
from contrastive_jax.losses import _instance as instance
from contrastive_jax.training import build, step
from tests import tiny

SIZE = 1438  # training images of digits


def make(**changes):
  config = tiny.config_of('instance_discrimination_small')
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]))


def batch_of_noise(job, rows=8):
  rng = np.random.default_rng(0)
  batch = build.example_batch(job, rows)
  batch['views'] = tuple(
    rng.uniform(size=view.shape).astype(np.float32) for view in batch['views']
  )
  batch['id'] = rng.permutation(SIZE)[:rows].astype(np.int32)
  return batch


def loss_fn(job, batch):
  """(params, model_state) -> what the objective's loss returns."""
  return jax.jit(
    lambda params, model_state: job.objective.loss(
      params,
      model_state,
      batch,
      rng=jax.random.key(0),
      step=np.int32(0),
      axis_name=None,
    )
  )


def without_projector(state):
  """All embeddings are zero, whose cosine with anything is zero."""
  zeros = jax.tree.map(lambda x: 0 * x, state.params['projector'])
  return {**state.params, 'projector': zeros}


def test_loss_with_the_old_bank_and_then_its_update():
  job = make(**{'objective.bank_momentum': 0.25})
  state, batch = build.init_state(job), batch_of_noise(job)
  value, (model_state, _, (z,)) = loss_fn(job, batch)(
    state.params, state.model_state
  )
  old, ids = state.model_state['bank'], batch['id']
  assert old.shape == (SIZE, 64)
  assert np.abs(old).max() <= 1 / math.sqrt(64 / 3)
  assert np.square(old).sum(axis=1).mean() == pytest.approx(1, abs=0.02)
  expected, _ = instance.full_softmax(z, ids, old, temperature=0.1)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  v = z / np.linalg.norm(z, axis=1, keepdims=True)
  moved = 0.25 * old[ids] + 0.75 * v
  moved /= np.linalg.norm(moved, axis=1, keepdims=True)
  expected = np.array(old)
  expected[ids] = moved
  np.testing.assert_allclose(model_state['bank'], expected, atol=1e-6)


@pytest.mark.parametrize('negatives', [0, 50])
def test_an_encoder_that_tells_nothing_is_at_chance(negatives):
  job = make(**{'objective.negatives': negatives})
  state, batch = build.init_state(job), batch_of_noise(job)
  value, _ = loss_fn(job, batch)(without_projector(state), state.model_state)
  np.testing.assert_allclose(value, job.objective.chance(8), rtol=1e-5)
  expected = math.log(51) + 50 * math.log(51 / 50)
  assert job.objective.chance(8) == pytest.approx(
    expected if negatives else math.log(SIZE), abs=2e-4
  )


def test_z_comes_from_the_first_batch_and_stays():
  job = make(**{'objective.negatives': 50})
  state, batch = build.init_state(job), batch_of_noise(job)
  loss = loss_fn(job, batch)
  assert state.model_state['log_z'] == -np.inf
  _, (first, _, (z,)) = loss(state.params, state.model_state)
  noise = instance.draw_noise(
    keys.draw(jax.random.key(0), keys.Draw.NOISE), batch['id'], 50, SIZE
  )
  slots = np.concatenate([batch['id'][:, None], noise], axis=1)
  rows = state.model_state['bank'][slots]
  v = z / np.linalg.norm(z, axis=1, keepdims=True)
  mean = np.exp(np.einsum('bd,bkd->bk', v, rows) / 0.1).mean()
  np.testing.assert_allclose(first['log_z'], np.log(SIZE * mean), rtol=1e-5)
  _, (second, _, _) = loss(state.params, first)
  assert second['log_z'] == first['log_z']
  assert np.any(second['bank'] != first['bank'])


def test_the_proximal_term_is_the_distance_from_the_bank():
  job = make(**{'objective.proximal_weight': 3.0})
  state, batch = build.init_state(job), batch_of_noise(job)
  value, _ = loss_fn(job, batch)(without_projector(state), state.model_state)
  rows = state.model_state['bank'][batch['id']]
  distance = np.square(rows).sum(axis=1).mean()
  np.testing.assert_allclose(value, math.log(SIZE) + 3 * distance, rtol=1e-5)


@pytest.mark.parametrize(
  'changes, sentence',
  [
    (
      {'augment.blur': (0, 0), 'augment.solarize': (0, 0)},
      'takes 1 global view ',
    ),
    ({'objective.negatives': -1}, 'negatives is -1'),
    ({'objective.bank_momentum': 1.0}, 'at least 0 and below 1'),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make(**changes)
