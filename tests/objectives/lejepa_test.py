import jax
import numpy as np

from contrastive_jax.losses import _lejepa
from contrastive_jax.training import build
from tests.objectives.byol_test import batch_of_noise, loss_fn, make

LOCAL = {'augment.local_crops': 2, 'augment.local_size': 4}


def test_the_loss_is_that_of_the_embeddings():
  job = make('lejepa_small', **{'objective.sigreg_weight': 0.3})
  state, batch = build.init_state(job), batch_of_noise(job)
  value, (_, metrics, embeddings) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  slices = metrics['sigreg'] * _lejepa.GAUSSIAN
  np.testing.assert_allclose(
    value, 0.7 * metrics['invariance_term'] + 0.3 * slices, rtol=1e-5
  )
  invariance = np.mean((embeddings[0] - embeddings[1]) ** 2) / 4
  np.testing.assert_allclose(metrics['invariance_term'], invariance, rtol=1e-4)


def test_directions_are_new_in_every_step():
  job = make('lejepa_small')
  state, batch = build.init_state(job), batch_of_noise(job)

  def value(step):
    rng = jax.random.fold_in(state.rng, step)
    return job.objective.loss(
      state.params,
      state.model_state,
      batch,
      rng=rng,
      step=step,
      axis_name=None,
    )[0]

  assert value(0) != value(1) and value(0) == value(0)


def test_chance_is_the_loss_of_embeddings_of_zero():
  for changes in ({}, LOCAL, LOCAL | {'objective.flattened': True}):
    job = make('lejepa_small', **changes)
    state, batch = build.init_state(job), batch_of_noise(job)
    params = jax.tree.map(np.zeros_like, state.params['projector'])
    value, (_, metrics, _) = loss_fn(job, batch)(
      {**state.params, 'projector': params}, state.model_state, 0
    )
    np.testing.assert_allclose(value, job.objective.chance(8), rtol=1e-5)
    np.testing.assert_allclose(metrics['sigreg_collapsed'], 1, rtol=1e-5)
    assert metrics['collapse_gauge'] == 0
