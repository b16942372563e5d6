import functools

import jax
import numpy as np
import pytest

from contrastive_jax.models import branches, heads
from contrastive_jax.training import build, step
from tests import tiny


def make(name, **changes):
  config = tiny.config_of(name)
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]))


def batch_of_noise(job, rows=8):
  rng = np.random.default_rng(0)
  batch = build.example_batch(job, rows)
  batch['views'] = tuple(
    rng.uniform(size=view.shape).astype(np.float32) for view in batch['views']
  )
  return batch


def loss_fn(job, batch):
  """(params, model_state, step) -> what the objective's loss returns."""

  def loss(params, model_state, step):
    return job.objective.loss(
      params,
      model_state,
      batch,
      rng=jax.random.key(0),
      step=step,
      axis_name=None,
    )

  return jax.jit(loss)


def stem_mean(params, view):
  """The mean of each channel of the stem's convolution of one view."""
  convolved = jax.lax.conv_general_dilated(
    view,
    params['encoder']['stem_conv']['kernel'],
    (1, 1),
    ((1, 1), (1, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return np.asarray(convolved.mean(axis=(0, 1, 2)))


def mean_after_two_passes(params, views):
  """Running mean of the stem after a pass of each of two views, from 0."""
  first, second = (0.1 * stem_mean(params, view) for view in views)
  return 0.9 * first + second


def stem_statistics(batch_stats):
  return batch_stats['encoder']['stem_norm']['mean']


def distance(p, z):
  """Mean of ||p/|p| - z/|z|||^2 in float64."""
  p, z = np.asarray(p, np.float64), np.asarray(z, np.float64)
  cosine = (
    (p * z).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(z, axis=1)
  )
  return np.mean(2 - 2 * cosine)


def outputs_of(job, params, views):
  """Projections and predictions of views, each in a pass of its own."""
  c = job.config.objective
  encoder = tiny.make_encoder(job.config.encoder, job.run.input_shape[0])
  sizes = [c.projector_hidden_size, c.projector_output_size]
  modules = {'encoder': encoder, 'projector': heads.MLP(sizes=sizes)}
  if 'predictor' in params:
    modules['predictor'] = heads.MLP(sizes=sizes)
  _, batch_stats = jax.eval_shape(
    lambda: branches.init_branch(jax.random.key(0), modules, views[0])
  )
  run = jax.jit(
    functools.partial(branches.run_branch, modules, train=True),
  )
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), batch_stats)
  outputs = [run(params, zeros, (view,))[0] for view in views]
  return [
    [output[name][0] for output in outputs]
    for name in modules
    if name != 'encoder'
  ]


def test_a_step_of_two_networks():
  job = make('byol_small', **{'objective.target_init': 'different'})
  state = build.init_state(job)
  batch = batch_of_noise(job)
  target = state.model_state['target']
  value, (model_state, metrics, embeddings) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )

  # The sum of both directions.
  projections, predictions = outputs_of(job, state.params, batch['views'])
  (targets,) = outputs_of(job, target, batch['views'])
  expected = distance(predictions[0], targets[1])
  expected += distance(predictions[1], targets[0])
  np.testing.assert_allclose(value, expected, rtol=1e-4)
  assert job.objective.chance(64) == 4
  np.testing.assert_allclose(metrics['tau'], 0.99, rtol=1e-5)
  for ours, theirs in zip(embeddings, projections, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

  # Each network has the batch statistics of its own passes, one a view.
  for params, batch_stats in (
    (state.params, model_state['batch_stats']),
    (target, model_state['target_batch_stats']),
  ):
    np.testing.assert_allclose(
      stem_statistics(batch_stats),
      mean_after_two_passes(params, batch['views']),
      rtol=1e-4,
      atol=1e-6,
    )


def test_local_crops_predict_both_targets_and_are_none():
  job = make(
    'byol_small', **{'augment.local_crops': 3, 'augment.local_size': 5}
  )
  state = build.init_state(job)
  batch = batch_of_noise(job)
  assert [v.shape[1] for v in batch['views']] == [8, 8, 5, 5, 5]
  value, (model_state, _, embeddings) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  assert len(embeddings) == 2
  # Global views in passes of their own, local crops together in one.
  views = [*batch['views'][:2], np.concatenate(batch['views'][2:])]
  _, (*predictions, local) = outputs_of(job, state.params, views)
  predictions += np.split(local, 3)
  (targets,) = outputs_of(job, state.model_state['target'], batch['views'][:2])
  pairs = [
    distance(p, z)
    for i, p in enumerate(predictions)
    for j, z in enumerate(targets)
    if i != j
  ]
  assert len(pairs) == 2 + 2 * 3
  np.testing.assert_allclose(value, 2 * np.mean(pairs), rtol=1e-4)
  np.testing.assert_allclose(
    stem_statistics(model_state['target_batch_stats']),
    mean_after_two_passes(state.model_state['target'], batch['views'][:2]),
    rtol=1e-4,
    atol=1e-6,
  )


@pytest.mark.parametrize('target_init', ['same', 'different'])
def test_where_the_target_starts(target_init):
  job = make('byol_small', **{'objective.target_init': target_init})
  state = jax.device_get(build.init_state(job).replace(rng=None))
  target = state.model_state['target']
  assert set(target) == {'encoder', 'projector'}
  same = [
    np.array_equal(a, b)
    for a, b in zip(
      jax.tree.leaves(target),
      jax.tree.leaves({name: state.params[name] for name in target}),
      strict=True,
    )
    if a.ndim > 1  # scales and offsets start alike anyhow
  ]
  assert set(same) == {target_init == 'same'}


def test_the_target_follows_more_and_more_slowly():
  job = make('byol_small', **{'objective.tau': 0.9})
  params = {name: np.float32(1) for name in ('encoder', 'projector')}
  params['predictor'] = np.float32(7)
  target = {name: np.float32(0) for name in ('encoder', 'projector')}
  model_state = {'batch_stats': 2, 'target': target, 'target_batch_stats': 3}
  total = job.run.total_steps
  for number in (0, 1, total // 2, total):
    after = job.objective.after_update(params, model_state, number)
    # 1 - tau, with tau = 1 - (1 - 0.9) (cos(pi k / K) + 1) / 2.
    share = 0.1 * (np.cos(np.pi * number / total) + 1) / 2
    assert set(after['target']) == {'encoder', 'projector'}
    for value in after['target'].values():
      np.testing.assert_allclose(value, share, atol=1e-7)
    # Only parameters are averaged.
    assert (after['batch_stats'], after['target_batch_stats']) == (2, 3)


def test_without_stop_gradient_there_is_no_target_network():
  job = make('byol_small', **{'objective.stop_gradient': False})
  state = build.init_state(job)
  assert set(state.model_state) == {'batch_stats'}
  batch = batch_of_noise(job)
  value, _ = loss_fn(job, batch)(state.params, state.model_state, 0)
  projections, predictions = outputs_of(job, state.params, batch['views'])
  expected = distance(predictions[0], projections[1])
  expected += distance(predictions[1], projections[0])
  np.testing.assert_allclose(value, expected, rtol=1e-4)
  after = job.objective.after_update(state.params, state.model_state, 0)
  assert set(after) == {'batch_stats'}


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'objective.tau': 1.5}, 'tau is 1.5'),
    ({'objective.target_init': 'equal'}, "not 'equal'"),
    (
      {'augment.blur': (0.5,), 'augment.solarize': (0.0,)},
      'takes 2 global views .* is for 1 ',
    ),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make('byol_small', **changes)
