import math

import jax
import numpy as np
import pytest

from contrastive_jax.losses._nt_xent import nt_xent
from contrastive_jax.models import branches, heads
from contrastive_jax.training import build, step
from tests import tiny


def make(**changes):
  config = tiny.config()
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]))


def batch_of_noise(job, rows=8):
  rng = np.random.default_rng(0)
  batch = build.example_batch(job, rows)
  batch['views'] = tuple(
    rng.uniform(size=view.shape).astype(np.float32) for view in batch['views']
  )
  return batch


def loss_of(job, state, batch):
  return job.objective.loss(
    state.params,
    state.model_state,
    batch,
    rng=jax.random.key(0),
    step=state.step,
    axis_name=None,
  )


def test_sum_is_twice_the_mean():
  both = []
  for reduction in ('mean', 'sum'):
    job = make(**{'objective.loss_reduction': reduction})
    state = build.init_state(job)
    both.append((loss_of(job, state, batch_of_noise(job))[0], job))
  (mean, mean_job), (total, sum_job) = both
  np.testing.assert_allclose(total, 2 * mean, rtol=1e-5)
  assert mean_job.objective.chance(64) == pytest.approx(math.log(127))
  assert sum_job.objective.chance(64) == pytest.approx(2 * math.log(127))


def test_the_bound_on_mutual_information_is_ceiling_less_loss():
  job = make(**{'objective.loss_reduction': 'mean'})
  batch = batch_of_noise(job, 64)  # the config's batch: the ceiling is of it
  loss, (_, metrics, _) = loss_of(job, build.init_state(job), batch)
  np.testing.assert_allclose(
    metrics['mutual_information_bound'], math.log(127) - loss, rtol=1e-5
  )
  assert (
    metrics['mutual_information_bound'] < metrics['mutual_information_ceiling']
  )


@pytest.mark.parametrize('layers', [1, 2, 3])
def test_projector_layers(layers):
  job = make(
    **{
      'objective.projector_layers': layers,
      'objective.projector_hidden_size': 32,
      'objective.projector_output_size': 24,
    }
  )
  shapes = jax.eval_shape(build.make_init(job)).params['projector']
  kernels = [shapes[f'dense{i + 1}']['kernel'].shape for i in range(layers)]
  sizes = [16, *[32] * (layers - 1), 24]
  assert kernels == list(zip(sizes[:-1], sizes[1:], strict=True))
  # Official: the last norm has a scale and no offset.
  assert set(shapes[f'norm{layers}']) == {'scale'}


def test_views_share_one_pass_and_its_statistics():
  job = make()
  state = build.init_state(job)
  batch = batch_of_noise(job)
  _, (model_state, metrics, _) = loss_of(job, state, batch)
  stem = state.params['encoder']['stem_conv']['kernel']
  x = np.concatenate(batch['views'])
  convolved = jax.lax.conv_general_dilated(
    x,
    stem,
    (1, 1),
    ((1, 1), (1, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  mean = model_state['batch_stats']['encoder']['stem_norm']['mean']
  np.testing.assert_allclose(
    mean, 0.1 * convolved.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6
  )


def test_features_do_not_depend_on_the_batch():
  job = make()
  state = build.init_state(job)
  images = batch_of_noise(job)['views'][0]
  features = job.objective.features(state.params, state.model_state, images)
  alone = job.objective.features(state.params, state.model_state, images[:2])
  np.testing.assert_allclose(features[:2], alone, rtol=1e-5, atol=1e-6)


def test_local_crops_add_pairs_with_the_global_views():
  job = make(**{'augment.local_crops': 2, 'augment.local_size': 4})
  batch = batch_of_noise(job)
  state = build.init_state(job)
  loss, (_, metrics, embeddings) = loss_of(job, state, batch)
  assert [view.shape[1] for view in batch['views']] == [8, 8, 4, 4]
  assert len(embeddings) == 2
  config = job.config
  z, _ = branches.run_branch(
    dict(
      encoder=tiny.make_encoder(config.encoder, 8),
      projector=heads.MLP(
        (16, config.objective.projector_output_size), output_norm='scale'
      ),
    ),
    state.params,
    state.model_state['batch_stats'],
    batch['views'],
    train=True,
  )
  z = z['projector']
  pairs = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3)]
  expected = np.mean([nt_xent(z[i], z[j], temperature=0.5) for i, j in pairs])
  np.testing.assert_allclose(loss, 2 * expected, rtol=1e-5)
  np.testing.assert_allclose(
    metrics['mutual_information_bound'],
    math.log(2 * job.run.batch_size - 1) - nt_xent(z[0], z[1], temperature=0.5),
    rtol=1e-4,
  )
