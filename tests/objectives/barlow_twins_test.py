import jax
import numpy as np
import pytest

from contrastive_jax.losses._barlow_twins import barlow_twins
from contrastive_jax.training import build
from tests.objectives.byol_test import (
  batch_of_noise,
  loss_fn,
  make,
  mean_after_two_passes,
  stem_statistics,
)


def test_the_loss_is_that_of_the_embeddings_scaled():
  job = make(
    'barlow_twins_small',
    **{'objective.loss_scale': 0.5, 'objective.redundancy_weight': 0.2},
  )
  state = build.init_state(job)
  batch = batch_of_noise(job)
  value, (model_state, metrics, embeddings) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  np.testing.assert_allclose(
    value, 0.5 * barlow_twins(*embeddings, redundancy_weight=0.2), rtol=1e-5
  )
  np.testing.assert_allclose(
    value,
    0.5 * (metrics['invariance_term'] + 0.2 * metrics['redundancy_term']),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    stem_statistics(model_state['batch_stats']),
    mean_after_two_passes(state.params, batch['views']),
    rtol=1e-4,
    atol=1e-6,
  )


def test_images_without_difference_are_at_chance():
  job = make('barlow_twins_small', **{'objective.loss_scale': 0.1})
  state = build.init_state(job)
  batch = build.example_batch(job, 8)
  value, _ = loss_fn(job, batch)(state.params, state.model_state, 0)
  np.testing.assert_allclose(value, job.objective.chance(8), rtol=1e-5)
  assert job.objective.chance(8) == pytest.approx(0.1 * 64)


def test_projector():
  job = make('barlow_twins_small')
  projector = jax.eval_shape(build.make_init(job)).params['projector']
  # Official: no linear layer has a bias, and no norm follows the last.
  assert set(projector) == {'dense1', 'dense2', 'dense3', 'norm1', 'norm2'}
  assert all(set(projector[f'dense{i}']) == {'kernel'} for i in (1, 2, 3))


@pytest.mark.parametrize(
  'changes, sentence',
  [
    (
      {'objective.redundancy_weight': -1.0},
      'redundancy_weight is -1: it must be at least 0',
    ),
    ({'objective.loss_scale': 0.0}, 'loss_scale is 0: it must be above 0'),
    ({'augment.local_crops': 2, 'augment.local_size': 5}, 'local_crops is 2'),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make('barlow_twins_small', **changes)
