import jax
import numpy as np

from contrastive_jax.training import build
from tests.objectives.byol_test import batch_of_noise, loss_fn, make


def test_the_loss_is_that_of_its_terms():
  weights = {
    'objective.regularizer_weight': 0.3,
    'objective.scale_weight': 2.0,
    'objective.shape_weight': 3.0,
    'objective.center_weight': 0.5,
  }
  job = make('visreg_small', **weights)
  state, batch = build.init_state(job), batch_of_noise(job)
  value, (_, metrics, embeddings) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  names = ('invariance', 'scale', 'shape', 'center')
  terms = [metrics[f'{name}_term'] for name in names]
  np.testing.assert_allclose(
    value, np.dot([0.7, 0.3 * 2, 0.3 * 3, 0.3 * 0.5], terms), rtol=1e-5
  )
  invariance = np.mean((embeddings[0] - embeddings[1]) ** 2) / 4
  np.testing.assert_allclose(terms[0], invariance, rtol=1e-4)


def test_chance_is_the_loss_of_embeddings_of_zero():
  job = make('visreg_small', **{'objective.shape_weight': 2.0})
  state, batch = build.init_state(job), batch_of_noise(job)
  params = jax.tree.map(np.zeros_like, state.params['projector'])
  value, (_, metrics, _) = loss_fn(job, batch)(
    {**state.params, 'projector': params}, state.model_state, 0
  )
  np.testing.assert_allclose(value, job.objective.chance(8), rtol=1e-5)
  assert metrics['collapse_gauge'] == 0


def test_any_number_of_global_views():
  """The four of the authors' recipe are drawn to the mean of all."""
  views = {'augment.blur': (0.0,) * 4, 'augment.solarize': (0.0,) * 4}
  job = make('visreg_small', **views)
  state, batch = build.init_state(job), batch_of_noise(job)
  _, (_, metrics, embeddings) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  assert len(embeddings) == 4
  z = np.stack(embeddings)
  expected = np.mean((z - z.mean(axis=0)) ** 2)
  np.testing.assert_allclose(metrics['invariance_term'], expected, rtol=1e-4)


def test_of_each_devices_images_chance_is_theirs():
  """Fewer images have other quantiles: 8 of a batch of 64 here."""
  job = make('visreg_small', **{'objective.gathered': False})
  state, batch = build.init_state(job), batch_of_noise(job)
  params = jax.tree.map(np.zeros_like, state.params['projector'])
  value, (_, metrics, _) = loss_fn(job, batch)(
    {**state.params, 'projector': params}, state.model_state, 0
  )
  np.testing.assert_allclose(value, metrics['chance_loss'], rtol=1e-5)
  assert abs(metrics['chance_loss'] - job.objective.chance(64)) > 0.01
