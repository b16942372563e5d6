import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import moco_small
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.training import build, step

BATCH = 16


def make(**changes):
  config = moco_small.get_config()
  config.encoder.name = '_tiny'
  config.encoder.width = 4
  config.encoder.norm = 'ghost:4'
  config.batch_size = BATCH
  config.objective.queue_size = 3 * BATCH
  config.objective.projector_output_size = 8
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]))


def run_fn(job):
  """Returns (params, model_state, batch) -> loss's output and a gradient.

  The gradient is that of the target network.
  """

  def loss(target, params, model_state, batch):
    return job.objective.loss(
      params,
      {**model_state, 'target': target},
      batch,
      rng=jax.random.key(5),
      step=jnp.zeros((), jnp.int32),
      axis_name=None,
    )

  function = jax.jit(jax.value_and_grad(loss, has_aux=True))
  return lambda params, model_state, batch: function(
    model_state['target'], params, model_state, batch
  )


@pytest.fixture(scope='module')
def stepped():
  """A job, its first state, a batch, and what the loss makes of it."""
  job = make()
  state = build.init_state(job)
  rng = np.random.default_rng(0)
  batch = build.example_batch(job, BATCH)
  batch['views'] = tuple(
    rng.uniform(size=view.shape).astype(np.float32) for view in batch['views']
  )
  function = run_fn(job)
  output = function(state.params, state.model_state, batch)
  return job, state, batch, function, output


def oracle(q, k, queue, temperature):
  """The mean loss over queries, in float64."""
  u, v = (np.asarray(l2_normalize(z), np.float64) for z in (q, k))
  positive = np.sum(u * v, axis=1) / temperature
  negative = u @ np.asarray(queue, np.float64).T / temperature
  normalizer = np.exp(positive) + np.exp(negative).sum(axis=1)
  return np.mean(np.log(normalizer) - positive)


def test_loss_is_of_the_queue_as_it_was(stepped):
  _, state, _, _, ((loss, (_, metrics, (q, k))), _) = stepped
  expected = oracle(q, k, state.model_state['queue'], 0.1)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  cosine = np.sum(l2_normalize(q) * l2_normalize(k), axis=1).mean()
  np.testing.assert_allclose(metrics['positive_similarity'], cosine, rtol=1e-5)


def test_keys_fill_the_queue_round_and_round(stepped):
  _, state, batch, function, _ = stepped
  model_state = state.model_state
  for number in (1, 2, 3, 4):
    expected = np.array(model_state['queue'])
    (_, (model_state, _, (_, k))), _ = function(
      state.params, model_state, batch
    )
    first = (number - 1) % 3 * BATCH
    expected[first : first + BATCH] = l2_normalize(k)
    np.testing.assert_allclose(model_state['queue'], expected, rtol=1e-5)
    assert model_state['queue_pointer'] == number * BATCH % (3 * BATCH)


def test_keys_come_from_the_target_and_give_it_no_gradient(stepped):
  _, state, batch, function, ((_, (_, _, (q, k))), gradient) = stepped
  target = state.model_state['target']
  jax.tree.map(np.testing.assert_array_equal, target, state.params)
  assert all(not np.any(g) for g in jax.tree.leaves(gradient))
  moved = jax.tree.map(lambda p: p + 0.1, target)
  (_, (_, _, (same_q, other_k))), _ = function(
    state.params, {**state.model_state, 'target': moved}, batch
  )
  np.testing.assert_array_equal(q, same_q)
  assert np.abs(k - other_k).max() > 0.01


def test_target_follows_the_parameters_and_nothing_else(stepped):
  job, state, _, _, _ = stepped
  params = jax.tree.map(lambda p: p + 1.0, state.params)
  after = job.objective.after_update(params, state.model_state, 0)
  for new, old in zip(
    jax.tree.leaves(after['target']),
    jax.tree.leaves(state.model_state['target']),
    strict=True,
  ):
    np.testing.assert_allclose(new, old + 0.01, rtol=1e-4, atol=1e-6)
  for name in set(after) - {'target'}:
    assert after[name] is state.model_state[name]


def test_each_network_has_the_statistics_of_its_own_view(stepped):
  _, state, batch, _, ((_, (model_state, _, _)), _) = stepped
  kernel = state.params['encoder']['stem_conv']['kernel']
  for name, view in zip(
    ('batch_stats', 'target_batch_stats'), batch['views'], strict=True
  ):
    convolved = jax.lax.conv_general_dilated(
      view,
      kernel,
      (1, 1),
      ((1, 1), (1, 1)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    np.testing.assert_allclose(
      model_state[name]['encoder']['stem_norm']['mean'],
      0.1 * convolved.mean(axis=(0, 1, 2)),
      rtol=1e-4,
      atol=1e-6,
    )


def test_keys_are_normalized_in_other_company_and_come_back_in_order(stepped):
  _, state, batch, function, _ = stepped
  same = np.repeat(batch['views'][1][:1], BATCH, axis=0)
  for odd in (2, 13):
    view = same.copy()
    view[odd] = batch['views'][1][1]
    (_, (_, _, (_, k))), _ = function(
      state.params, state.model_state, {**batch, 'views': (same, view)}
    )
    k = np.asarray(k)
    distance = np.abs(k[:, None] - k).max(axis=-1)
    alike = (distance < 1e-5 * np.abs(k).max()).sum(axis=1)
    # One that is unlike all, three that shared its group of four, and the rest.
    assert sorted(alike) == [1, 3, 3, 3, *[12] * 12]
    assert np.argmin(alike) == odd
    company = np.flatnonzero(alike == 3)
    assert set(company // 4) != {odd // 4}


def test_symmetric_is_the_sum_of_both_directions_and_keeps_both_keys(stepped):
  _, _, batch, _, _ = stepped
  job = make(
    **{
      'objective.symmetric': True,
      'objective.shuffle': False,
      'objective.queue_size': 4 * BATCH,
    }
  )
  state = build.init_state(job)
  (loss, (model_state, _, (a, b))), _ = run_fn(job)(
    state.params, state.model_state, batch
  )
  # The target is the query network yet, so without shuffling each view has one
  # embedding, query or key.
  old, new = state.model_state['queue'], model_state['queue']
  np.testing.assert_allclose(
    loss, oracle(a, b, old, 0.1) + oracle(b, a, old, 0.1), rtol=1e-5
  )
  np.testing.assert_allclose(new[:BATCH], l2_normalize(b), atol=1e-6)
  np.testing.assert_allclose(new[BATCH:][:BATCH], l2_normalize(a), atol=1e-6)
  np.testing.assert_array_equal(new[2 * BATCH :], old[2 * BATCH :])
  assert model_state['queue_pointer'] == 2 * BATCH
  chance = job.objective.chance(BATCH)
  assert chance == pytest.approx(2 * math.log(4 * BATCH + 1))


def test_an_encoder_that_knows_nothing_is_at_chance(stepped):
  job, state, batch, function, _ = stepped
  params = jax.tree.map(jnp.zeros_like, state.params)
  (loss, _), _ = function(params, state.model_state, batch)
  np.testing.assert_allclose(loss, job.objective.chance(BATCH), rtol=1e-5)


@pytest.mark.parametrize(
  ('changes', 'sentence'),
  [
    (
      {'objective.queue_size': 40},
      'queue_size is 40, not a multiple of the 16',
    ),
    (
      {'objective.queue_size': 3 * BATCH, 'objective.symmetric': True},
      'queue_size is 48, not a multiple of the 32',
    ),
    (
      {'augment.blur': (0.0,), 'augment.solarize': (0.0,)},
      'takes 2 global views .* is for 1 ',
    ),
    ({'augment.local_crops': 2, 'augment.local_size': 4}, 'local_crops is 2'),
    ({'objective.tau': 1.5}, 'objective.tau is 1.5'),
    (
      {'objective.temperature': 0.0},
      'objective.temperature is 0: it must be above 0',
    ),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make(**changes)
