import math

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax import objectives
from contrastive_jax.training import build, step
from tests import tiny


def make(**changes):
  config = tiny.config_of('supervised_small')
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]))


def batch_of_noise(job, rows=8):
  rng = np.random.default_rng(0)
  batch = build.example_batch(job, rows)
  batch['views'] = tuple(
    rng.uniform(size=view.shape).astype(np.float32) for view in batch['views']
  )
  batch['label'] = np.arange(rows, dtype=np.int32)
  return batch


def loss_of(job, state, batch):
  return jax.jit(
    lambda params: job.objective.loss(
      params,
      state.model_state,
      batch,
      rng=jax.random.key(0),
      step=np.int32(0),
      axis_name=None,
    )
  )(state.params)


def test_is_the_cross_entropy_of_a_linear_classifier():
  job = make(
    **{
      'augment.blur': (0.0, 0.0),
      'augment.solarize': (0.0, 0.0),
      'objective.label_smoothing': 0.1,
    }
  )
  state, batch = build.init_state(job), batch_of_noise(job)
  classifier = state.params['classifier']['dense1']
  assert classifier['kernel'].shape[1] == job.run.num_classes == 10
  value, (_, metrics, features) = loss_of(job, state, batch)
  assert len(features) == 2
  losses, right = [], []
  for view in features:
    for h, label in zip(np.float64(view), batch['label'], strict=True):
      logits = h @ classifier['kernel'] + classifier['bias']
      log_p = logits - np.log(np.exp(logits).sum())
      losses.append(-0.9 * log_p[label] - 0.1 * log_p.mean())
      right.append(logits.argmax() == label)
  np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)
  np.testing.assert_allclose(metrics['accuracy'], np.mean(right), rtol=1e-5)


def test_a_classifier_of_zeros_is_at_chance():
  job = make(**{'objective.label_smoothing': 0.1})
  state = build.init_state(job)
  zeros = jax.tree.map(lambda x: 0 * x, state.params['classifier'])
  state = state.replace(params={**state.params, 'classifier': zeros})
  value, _ = loss_of(job, state, batch_of_noise(job))
  np.testing.assert_allclose(value, math.log(10), rtol=1e-5)
  assert job.objective.chance(8) == pytest.approx(math.log(10))


def test_without_labels_it_is_refused():
  job = make()
  run = job.run._replace(num_classes=None)
  with pytest.raises(ValueError, match='needs labels; the data has none'):
    objectives.make(job.config, run)


def test_images_without_a_label_count_nothing():
  job = make()
  state, batch = build.init_state(job), batch_of_noise(job)
  batch['label'][[1, 2, 3, 6]] = -1
  known = batch['label'] >= 0

  def loss(params, batch, axis_name=None):
    value, (_, metrics, embeddings) = job.objective.loss(
      params,
      state.model_state,
      batch,
      rng=jax.random.key(0),
      step=np.int32(0),
      axis_name=axis_name,
    )
    return value, (metrics, embeddings)

  (value, (metrics, (h,))), gradient = jax.jit(
    jax.value_and_grad(loss, has_aux=True)
  )(state.params, batch)
  layer = state.params['classifier']['dense1']
  log_p = jax.nn.log_softmax(h @ layer['kernel'] + layer['bias'])
  expected = -log_p[known, batch['label'][known]].mean()
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  right = log_p[known].argmax(-1) == batch['label'][known]
  np.testing.assert_allclose(metrics['accuracy'], right.mean(), rtol=1e-5)

  # On two replicas, of which one has three of the four labels.
  def replica(params, half):
    params = jax.lax.pcast(params, step.AXIS, to='varying')
    return jax.lax.pmean(loss(params, half, step.AXIS)[0], step.AXIS)

  of_replicas = jax.shard_map(
    replica,
    mesh=step.make_mesh(jax.devices()[:2]),
    in_specs=(P(), P(step.AXIS)),
    out_specs=P(),
  )

  again, its_gradient = jax.jit(jax.value_and_grad(of_replicas))(
    jax.device_get(state.params), batch
  )
  np.testing.assert_allclose(again, value, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    its_gradient,
    gradient,
  )
  batch['label'][:] = -1  # then there is nothing to learn
  value, _ = jax.jit(loss)(state.params, batch)
  assert value == 0
