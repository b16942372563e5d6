import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import nnclr_small
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.models import heads
from contrastive_jax.training import build, step

BATCH = 16


def make(**changes):
  config = nnclr_small.get_config()
  config.encoder.name = '_tiny'
  config.encoder.width = 4
  config.batch_size = BATCH
  config.objective.queue_size = 3 * BATCH
  config.objective.projector_hidden_size = 16
  config.objective.projector_output_size = 8
  config.objective.predictor_hidden_size = 16
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]))


@pytest.fixture(scope='module')
def stepped():
  """A job, its first state, a batch, the loss, its projector's gradient."""
  job = make()
  state = build.init_state(job)
  rng = np.random.default_rng(0)
  batch = build.example_batch(job, BATCH)
  batch['views'] = tuple(
    rng.uniform(size=view.shape).astype(np.float32) for view in batch['views']
  )
  batch['label'] = jnp.arange(BATCH, dtype=jnp.int32)

  def loss(projector, params, model_state):
    return job.objective.loss(
      {**params, 'projector': projector},
      model_state,
      batch,
      rng=jax.random.key(5),
      step=jnp.zeros((), jnp.int32),
      axis_name=None,
    )

  compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))

  def function(params, model_state):
    return compiled(params['projector'], params, model_state)

  output = function(state.params, state.model_state)
  return job, state, batch, function, output


def test_loss_is_of_neighbors_and_the_other_views_predictions(stepped):
  _, state, _, _, ((loss, (_, metrics, embeddings)), _) = stepped
  queue = np.asarray(state.model_state['queue'])
  predictor = heads.MLP((16, 8), output_bias=True)
  predictions = []
  for z in embeddings:
    p, _ = predictor.apply(
      {
        'params': state.params['predictor'],
        'batch_stats': state.model_state['batch_stats']['predictor'],
      },
      z,
      train=True,
      mutable=['batch_stats'],
    )
    predictions.append(np.asarray(l2_normalize(p)))
  values, similarities = [], []
  for z, p in zip(embeddings, predictions[::-1], strict=True):
    u = np.asarray(l2_normalize(z))
    distance = np.linalg.norm(u[:, None] - queue, axis=-1)
    neighbor = queue[np.argmin(distance, axis=1)]
    logits = neighbor @ p.T / 0.2
    values.append(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
    similarities.append(1 - distance.min(axis=1) ** 2 / 2)
  np.testing.assert_allclose(loss, np.mean(values), rtol=1e-5)
  np.testing.assert_allclose(
    metrics['nearest_neighbor_similarity'], np.mean(similarities), rtol=1e-5
  )
  # No row of the queue has a label yet.
  assert metrics['nearest_neighbor_label_accuracy'] == 0


def test_support_set_is_of_the_first_view_and_its_labels(stepped):
  _, state, batch, function, ((_, (model_state, _, (z, _))), _) = stepped
  np.testing.assert_allclose(
    model_state['queue'][:BATCH], l2_normalize(z), rtol=1e-5
  )
  np.testing.assert_array_equal(
    model_state['queue'][BATCH:], state.model_state['queue'][BATCH:]
  )
  np.testing.assert_array_equal(
    model_state['queue_label'][:BATCH], batch['label']
  )
  assert model_state['queue_pointer'] == BATCH
  # The first view's embeddings are there now, each its own neighbor.
  (_, (_, metrics, _)), _ = function(state.params, model_state)
  assert metrics['nearest_neighbor_label_accuracy'] >= 0.5


def test_gradient_comes_by_way_of_the_predictions_only(stepped):
  _, state, _, function, (_, gradient) = stepped
  assert all(np.any(g) for g in jax.tree.leaves(gradient))
  cut = jax.tree.map(jnp.zeros_like, state.params['predictor']['dense2'])
  cut['bias'] = cut['bias'] + 1.0
  predictor = {**state.params['predictor'], 'dense2': cut}
  (loss, _), gradient = function(
    {**state.params, 'predictor': predictor}, state.model_state
  )
  assert all(not np.any(g) for g in jax.tree.leaves(gradient))
  # And predictions that are all alike leave the loss at chance.
  np.testing.assert_allclose(loss, math.log(BATCH), rtol=1e-5)


def test_chance_is_of_the_batch(stepped):
  assert stepped[0].objective.chance(BATCH) == pytest.approx(math.log(BATCH))


@pytest.mark.parametrize(
  ('changes', 'sentence'),
  [
    (
      {'objective.queue_size': 40},
      'queue_size is 40, not a multiple of the 16',
    ),
    (
      {'augment.blur': (0.0,), 'augment.solarize': (0.0,)},
      'takes 2 global views .* is for 1 ',
    ),
    ({'augment.local_crops': 2, 'augment.local_size': 4}, 'local_crops is 2'),
    (
      {'objective.temperature': 0.0},
      'objective.temperature is 0: it must be above 0',
    ),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make(**changes)
