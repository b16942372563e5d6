import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import moco_v3_small
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.models import heads
from contrastive_jax.training import build, step

BATCH = 16


def make(**changes):
  config = moco_v3_small.get_config()
  config.encoder.name = '_tiny'
  config.encoder.width = 4
  config.batch_size = BATCH
  config.objective.projector_hidden_size = 16
  config.objective.projector_output_size = 8
  config.objective.predictor_hidden_size = 16
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]))


@pytest.fixture(scope='module')
def stepped():
  """A job, its first state, a batch, the loss and the target's gradient."""
  job = make()
  state = build.init_state(job)
  rng = np.random.default_rng(0)
  batch = build.example_batch(job, BATCH)
  batch['views'] = tuple(
    rng.uniform(size=view.shape).astype(np.float32) for view in batch['views']
  )

  def loss(target, params, model_state):
    return job.objective.loss(
      params,
      {**model_state, 'target': target},
      batch,
      rng=jax.random.key(5),
      step=jnp.zeros((), jnp.int32),
      axis_name=None,
    )

  function = jax.jit(jax.value_and_grad(loss, has_aux=True))
  output = function(
    state.model_state['target'], state.params, state.model_state
  )
  return job, state, batch, function, output


def test_loss_is_of_each_prediction_and_the_other_views_keys(stepped):
  _, state, _, _, ((loss, (_, _, embeddings)), _) = stepped
  predictor = heads.MLP((16, 8))
  values = []
  # At first the target is the online network, and so are its embeddings.
  for z, other in zip(embeddings, embeddings[::-1], strict=True):
    p, _ = predictor.apply(
      {
        'params': state.params['predictor'],
        'batch_stats': state.model_state['batch_stats']['predictor'],
      },
      z,
      train=True,
      mutable=['batch_stats'],
    )
    logits = np.asarray(l2_normalize(p) @ l2_normalize(other).T) / 0.2
    values.append(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
  expected = 2 * 0.2 * (values[0].mean() + values[1].mean())
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_an_encoder_that_knows_nothing_is_at_chance(stepped):
  job, state, _, function, _ = stepped
  params = jax.tree.map(jnp.zeros_like, state.params)
  (loss, _), _ = function(
    state.model_state['target'], params, state.model_state
  )
  np.testing.assert_allclose(loss, 4 * 0.2 * math.log(BATCH), rtol=1e-5)
  assert job.objective.chance(BATCH) == pytest.approx(0.8 * math.log(BATCH))


def test_target_gets_no_gradient_but_makes_the_keys(stepped):
  _, state, _, function, ((loss, _), gradient) = stepped
  target = state.model_state['target']
  assert set(target) == {'encoder', 'projector'}
  assert all(not np.any(g) for g in jax.tree.leaves(gradient))
  moved = jax.tree.map(
    lambda p: p + jax.random.normal(jax.random.key(p.size), p.shape), target
  )
  (other, _), _ = function(moved, state.params, state.model_state)
  assert abs(other - loss) > 1e-4


def test_a_pass_for_each_view_and_each_network(stepped):
  _, state, batch, _, ((_, (model_state, _, _)), _) = stepped
  kernel = state.params['encoder']['stem_conv']['kernel']
  mean = np.zeros(4)
  for view in batch['views']:
    convolved = jax.lax.conv_general_dilated(
      view,
      kernel,
      (1, 1),
      ((1, 1), (1, 1)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    mean = 0.9 * mean + 0.1 * convolved.mean(axis=(0, 1, 2))
  for name in ('batch_stats', 'target_batch_stats'):
    np.testing.assert_allclose(
      model_state[name]['encoder']['stem_norm']['mean'],
      mean,
      rtol=1e-4,
      atol=1e-6,
    )


def test_tau_rises_to_one_over_the_run(stepped):
  job, state, _, _, _ = stepped
  total = job.run.total_steps
  params = jax.tree.map(lambda p: p + 1.0, state.params)
  for done, rest in (
    # The official first step moves a target that is no different yet; the
    # second one keeps what half a cosine has after one step.
    (0, 0.01 * (1 + math.cos(math.pi / total)) / 2),
    (total // 2 - 1, 0.005),
    (total - 1, 0.0),
  ):
    after = job.objective.after_update(
      params, state.model_state, jnp.asarray(done, jnp.int32)
    )
    before = state.model_state['target']['projector']['dense1']['kernel']
    np.testing.assert_allclose(
      after['target']['projector']['dense1']['kernel'],
      before + rest,
      atol=1e-6,
    )


def test_heads_are_the_official_ones_for_resnet(stepped):
  params = stepped[1].params
  assert set(params['projector']) == {'dense1', 'norm1', 'dense2'}
  assert set(params['predictor']) == {'dense1', 'norm1', 'dense2'}
  for head in ('projector', 'predictor'):
    for layer in ('dense1', 'dense2'):
      assert set(params[head][layer]) == {'kernel'}
  statistics = stepped[1].model_state['batch_stats']
  assert set(statistics['projector']) == {'norm1', 'norm2'}
  assert set(statistics['predictor']) == {'norm1'}


@pytest.mark.parametrize(
  ('changes', 'sentence'),
  [
    (
      {'augment.blur': (0.0,), 'augment.solarize': (0.0,)},
      'takes 2 global views .* is for 1 ',
    ),
    ({'augment.local_crops': 2, 'augment.local_size': 4}, 'local_crops is 2'),
    ({'objective.tau': -0.1}, 'objective.tau is -0.1'),
    (
      {'objective.temperature': 0.0},
      'objective.temperature is 0: it must be above 0',
    ),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make(**changes)
