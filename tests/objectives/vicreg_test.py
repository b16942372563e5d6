import numpy as np
import pytest

from contrastive_jax.losses._vicreg import vicreg
from contrastive_jax.training import build
from tests.objectives.byol_test import (
  batch_of_noise,
  loss_fn,
  make,
  mean_after_two_passes,
  stem_statistics,
)


def test_the_loss_is_that_of_the_embeddings():
  job = make(
    'vicreg_small',
    **{
      'objective.similarity_weight': 3.0,
      'objective.variance_weight': 0.0,
      'objective.covariance_weight': 2.0,
    },
  )
  state = build.init_state(job)
  batch = batch_of_noise(job)
  value, (model_state, metrics, embeddings) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  expected = vicreg(
    *embeddings,
    similarity_weight=3.0,
    variance_weight=0.0,
    covariance_weight=2.0,
  )
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(
    value,
    3 * metrics['similarity_term'] + 2 * metrics['covariance_term'],
    rtol=1e-5,
  )
  assert metrics['variance_term'] > 0
  std = np.mean([np.std(z, axis=0, ddof=1) for z in embeddings])
  np.testing.assert_allclose(metrics['collapse_gauge'], std, rtol=1e-2)
  np.testing.assert_allclose(
    stem_statistics(model_state['batch_stats']),
    mean_after_two_passes(state.params, batch['views']),
    rtol=1e-4,
    atol=1e-6,
  )


@pytest.mark.parametrize(
  'form, weight, expected',
  [('code', 25.0, 24.75), ('paper', 25.0, 49.5), ('paper', 2.0, 3.96)],
)
def test_chance(form, weight, expected):
  job = make(
    'vicreg_small',
    **{'objective.variance_form': form, 'objective.variance_weight': weight},
  )
  assert job.objective.chance(8) == pytest.approx(expected)


def test_images_without_difference_are_at_chance():
  job = make('vicreg_small')
  state = build.init_state(job)
  batch = build.example_batch(job, 8)
  value, (_, metrics, _) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  np.testing.assert_allclose(value, 49.5, rtol=1e-5)
  assert metrics['collapse_gauge'] < 0.05


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'objective.variance_form': 'half'}, "not 'half'"),
    (
      {'objective.variance_weight': -1.0},
      'variance_weight is -1: it must be at least 0',
    ),
    ({'objective.projector_layers': 0}, 'projector_layers is 0'),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make('vicreg_small', **changes)
