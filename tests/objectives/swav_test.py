import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax.losses._swav import swav
from contrastive_jax.training import build, step
from tests import tiny


@functools.cache
def make(local_crops=0, **changes):
  config = tiny.config_of('swav_small')
  config.batch_size = 8
  config.steps = 1000
  config.objective.num_prototypes = 32
  config.update_from_flattened_dict(
    {f'objective.{k}': v for k, v in changes.items()}
  )
  config.augment.local_crops = local_crops
  config.augment.local_size = 4
  return build.build(config, step.make_mesh(jax.devices()[:1]))


@functools.cache
def initial_state():
  state = build.init_state(make(queue_size=16, queue_start_epoch=1.0))
  return state.params, state.model_state


@functools.cache
def loss_fn(job_fields):
  objective = make(**dict(job_fields)).objective
  return jax.jit(
    lambda params, model_state, batch, step: objective.loss(
      params,
      model_state,
      batch,
      rng=jax.random.key(0),
      step=step,
      axis_name=None,
    )
  )


def loss(model_state, batch, number, params=None, **fields):
  """(loss, (model_state, metrics, embeddings)) of a job of these fields."""
  params = initial_state()[0] if params is None else params
  return loss_fn(tuple(fields.items()))(params, model_state, batch, number)


def batch_of_noise(seed=0, **fields):
  rng = np.random.default_rng(seed)
  batch = build.example_batch(make(**fields), 8)
  views = [rng.uniform(size=v.shape).astype(np.float32) for v in batch['views']]
  return {**batch, 'views': tuple(views)}


def test_scores_of_nothing_are_at_chance():
  params, model_state = initial_state()
  projector = {
    **params['projector'],
    'dense2': jax.tree.map(jnp.zeros_like, params['projector']['dense2']),
  }
  value, (_, metrics, embeddings) = loss(
    {'batch_stats': model_state['batch_stats']},
    batch_of_noise(local_crops=3),
    0,
    {**params, 'projector': projector},
    local_crops=3,
  )
  assert make().objective.chance(8) == pytest.approx(math.log(32))
  # float32, whose sums a processor may take in another order.
  np.testing.assert_allclose(value, math.log(32), rtol=1e-5)
  np.testing.assert_allclose(
    metrics['prototype_usage_entropy'], math.log(32), rtol=1e-5
  )
  # Local crops are not what a collapse is looked for in.
  assert [z.shape for z in embeddings] == [(8, 64)] * 2


@pytest.mark.parametrize('local_crops', [0, 3])
def test_one_pass_a_resolution(local_crops):
  params, model_state = initial_state()
  batch = batch_of_noise(local_crops=local_crops)
  fields = {'local_crops': local_crops} if local_crops else {}
  before = {'batch_stats': model_state['batch_stats']}
  _, (after, _, _) = loss(before, batch, 0, **fields)

  def channel_means(views):
    convolved = jax.lax.conv_general_dilated(
      np.concatenate(views),
      params['encoder']['stem_conv']['kernel'],
      (1, 1),
      ((1, 1), (1, 1)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return convolved.mean(axis=(0, 1, 2))

  expected = 0.1 * channel_means(batch['views'][:2])
  if local_crops:
    expected = 0.9 * expected + 0.1 * channel_means(batch['views'][2:])
  mean = after['batch_stats']['encoder']['stem_norm']['mean']
  np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-6)


QUEUE = dict(queue_size=16, queue_start_epoch=1.0)


def test_the_queue_starts_late_and_changes_nothing_before():
  """From epoch 1 on two steps fill it, and the third one uses it."""
  _, model_state = initial_state()
  plain_state = {'batch_stats': model_state['batch_stats']}
  start = make(**QUEUE).run.steps_per_epoch
  differences = []
  for number in range(start - 2, start + 4):
    batch = batch_of_noise(seed=number)
    value, (model_state, _, _) = loss(model_state, batch, number, **QUEUE)
    plain, (plain_state, _, _) = loss(plain_state, batch, number)
    differences.append(float(abs(value - plain)))
  assert differences[:4] == [0] * 4
  assert min(differences[4:]) > 1e-4


def test_the_queue_has_the_last_steps_and_is_scored_by_todays_prototypes():
  params, model_state = initial_state()
  assert model_state['queue'].shape == (16, 2, 64)
  start = make(**QUEUE).run.steps_per_epoch
  units, vectors = [], np.asarray(params['prototypes']['vectors'])
  for number in range(3):
    # Other prototypes each time, and not of length 1.
    turned = {'vectors': (number + 2) * np.roll(vectors, number, axis=1)}
    before = model_state
    value, (model_state, _, embeddings) = loss(
      before,
      batch_of_noise(seed=number),
      start + number,
      {**params, 'prototypes': turned},
      **QUEUE,
    )
    z = np.stack(embeddings, axis=1)
    units.append(z / np.linalg.norm(z, axis=-1, keepdims=True))
  np.testing.assert_allclose(
    before['queue'], np.concatenate(units[:2]), atol=1e-6
  )
  # A ring: the third batch stands where the first one stood.
  np.testing.assert_allclose(
    model_state['queue'], np.concatenate([units[2], units[1]]), atol=1e-6
  )
  assert model_state['queue_pointer'] == 8
  prototypes = np.roll(vectors, 2, axis=1).T
  c = make(**QUEUE).config.objective
  expected = swav(
    [jnp.asarray(units[2][:, i] @ prototypes) for i in range(2)],
    temperature=c.temperature,
    epsilon=c.sinkhorn_epsilon,
    queue_scores=[before['queue'][:, i] @ prototypes for i in range(2)],
  )
  np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_a_queue_of_eight_devices_is_that_of_one():
  params, model_state = initial_state()
  queue = np.random.default_rng(1).normal(size=(16, 2, 64)).astype(np.float32)
  queue /= np.linalg.norm(queue, axis=-1, keepdims=True)
  model_state = {**model_state, 'queue': queue}
  batch, number = batch_of_noise(), make(**QUEUE).run.total_steps
  whole, (state, metrics, _) = loss(model_state, batch, number, **QUEUE)

  def local(params, model_state, batch):
    value, (model_state, metrics, _) = make(**QUEUE).objective.loss(
      params,
      model_state,
      batch,
      rng=jax.random.key(0),
      step=number,
      axis_name=step.AXIS,
    )
    return value[None], (model_state, metrics)

  # That the state is the same everywhere is checked by out_specs.
  everywhere, rows = PartitionSpec(), PartitionSpec(step.AXIS)
  values, (other_state, other_metrics) = jax.jit(
    jax.shard_map(
      local,
      mesh=step.make_mesh(),
      in_specs=(everywhere, everywhere, rows),
      out_specs=(rows, everywhere),
    )
  )(*jax.device_get((params, model_state)), batch)
  np.testing.assert_allclose(np.mean(values), whole, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    (other_state, other_metrics),
    (state, metrics),
  )


@pytest.mark.parametrize(
  'changes, sentence',
  [
    (dict(temperature=0.0), 'objective.temperature is 0: it must be above 0'),
    (dict(sinkhorn_epsilon=0.0), 'sinkhorn_epsilon is 0: it must be above 0'),
    (
      dict(sinkhorn_iterations=-1),
      'sinkhorn_iterations is -1: it must be at least 0',
    ),
    (dict(num_prototypes=1), 'num_prototypes is 1: it must be at least 2'),
    (dict(queue_size=12), 'queue_size is 12, not a multiple of the 8 rows'),
  ],
)
def test_wrong_values_are_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make(**changes)
