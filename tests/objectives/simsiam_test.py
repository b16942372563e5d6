import jax
import numpy as np
import pytest

from contrastive_jax.losses._cosine import negative_cosine
from contrastive_jax.training import build
from tests.objectives.byol_test import (
  batch_of_noise,
  distance,
  loss_fn,
  make,
  mean_after_two_passes,
  outputs_of,
  stem_statistics,
)

# So that the heads are those of BYOL's test, but for the projector's last norm.
_SQUARE = {
  'objective.projector_output_size': 64,
  'objective.predictor_hidden_size': 64,
}


def test_the_loss_is_the_mean_of_both_directions():
  job = make('simsiam_small', **_SQUARE)
  state = build.init_state(job)
  batch = batch_of_noise(job)
  value, (model_state, _, embeddings) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  (projections,) = outputs_of(
    job,
    {name: state.params[name] for name in ('encoder', 'projector')},
    batch['views'],
  )
  predictor = state.params['predictor']
  z = [(x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) for x in projections]
  predictions = []
  for x in z:
    hidden = x @ predictor['dense1']['kernel']
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    hidden = np.maximum(hidden, 0)
    predictions.append(
      hidden @ predictor['dense2']['kernel'] + predictor['dense2']['bias']
    )
  # -cos is half the squared distance, less 1.
  expected = distance(predictions[0], z[1]) + distance(predictions[1], z[0])
  np.testing.assert_allclose(value, expected / 4 - 1, atol=1e-5)
  for ours, theirs in zip(embeddings, z, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
  assert job.objective.chance(64) == 0
  np.testing.assert_allclose(
    stem_statistics(model_state['batch_stats']),
    mean_after_two_passes(state.params, batch['views']),
    rtol=1e-4,
    atol=1e-6,
  )


@pytest.mark.parametrize('stop_gradient', [True, False])
def test_the_target_side_takes_a_gradient_only_if_asked(stop_gradient):
  job = make(
    'simsiam_small', **_SQUARE, **{'objective.stop_gradient': stop_gradient}
  )
  state = build.init_state(job)
  # A predictor that gives zeros lets no gradient through to its input, so that
  # the encoder's can only come from the other side.
  params = {
    **state.params,
    'predictor': jax.tree.map(lambda p: 0 * p, state.params['predictor']),
  }
  bias = np.ones_like(params['predictor']['dense2']['bias'])
  params['predictor']['dense2']['bias'] = bias
  batch = batch_of_noise(job)
  loss = loss_fn(job, batch)
  gradient = jax.grad(lambda p: loss(p, state.model_state, 0)[0])(params)
  moved = any(np.any(g) for g in jax.tree.leaves(gradient['encoder']))
  assert moved is (not stop_gradient)


@pytest.mark.parametrize('layers', [2, 3])
def test_heads(layers):
  job = make('simsiam_small', **{'objective.projector_layers': layers})
  shapes = jax.eval_shape(build.make_init(job)).params
  projector, predictor = shapes['projector'], shapes['predictor']
  # The last norm has no parameters, and no linear layer a bias.
  assert set(projector) == {f'dense{i + 1}' for i in range(layers)} | {
    f'norm{i + 1}' for i in range(layers - 1)
  }
  assert all(set(projector[k]) == {'kernel'} for k in projector if k < 'n')
  assert set(predictor) == {'dense1', 'norm1', 'dense2'}
  assert set(predictor['dense1']) == {'kernel'}
  assert set(predictor['dense2']) == {'kernel', 'bias'}
  assert job.config.optimizer.constant_rate == ('predictor',)


def test_identical_embeddings_reach_the_least_loss():
  z = np.random.default_rng(0).normal(size=(4, 8))
  np.testing.assert_allclose(negative_cosine(z, 2 * z), -1, atol=1e-6)


def test_three_views_are_refused():
  with pytest.raises(
    ValueError, match='takes 2 global views .* is for 3 views'
  ):
    make(
      'simsiam_small',
      **{'augment.blur': (0.0,) * 3, 'augment.solarize': (0.0,) * 3},
    )
