import math

import jax
import numpy as np
import pytest

from contrastive_jax import objectives
from contrastive_jax.losses._supcon import supcon
from contrastive_jax.training import build, step
from tests import tiny


def make(**changes):
  config = tiny.config_of('supcon_small')
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]))


def batch_of_noise(job, rows=8):
  rng = np.random.default_rng(0)
  batch = build.example_batch(job, rows)
  batch['views'] = tuple(
    rng.uniform(size=view.shape).astype(np.float32) for view in batch['views']
  )
  batch['label'] = np.arange(rows, dtype=np.int32) % 3
  return batch


def loss_of(job, params, model_state, batch):
  return jax.jit(
    lambda params: job.objective.loss(
      params,
      model_state,
      batch,
      rng=jax.random.key(0),
      step=np.int32(0),
      axis_name=None,
    )
  )(params)


def test_embeddings_of_all_views_and_labels_reach_the_loss():
  job = make(**{'augment.blur': (0.0,) * 3, 'augment.solarize': (0.0,) * 3})
  state, batch = build.init_state(job), batch_of_noise(job)
  value, (_, _, embeddings) = loss_of(
    job, state.params, state.model_state, batch
  )
  assert len(embeddings) == 3
  np.testing.assert_allclose(
    value, supcon(embeddings, batch['label'], temperature=0.1), rtol=1e-5
  )


@pytest.mark.parametrize('base_temperature', [0.07, 1.0])
def test_a_constant_embedding_is_at_chance(base_temperature):
  job = make(**{'objective.base_temperature': base_temperature})
  state, batch = build.init_state(job), batch_of_noise(job)
  last = state.params['projector']['dense2']
  last['kernel'], last['bias'] = 0 * last['kernel'], 1 + last['bias']
  value, _ = loss_of(job, state.params, state.model_state, batch)
  np.testing.assert_allclose(value, job.objective.chance(8), rtol=1e-5)
  assert job.objective.chance(8) == pytest.approx(
    0.1 / base_temperature * math.log(15)
  )


def test_normalized_features_make_their_length_of_no_account():
  embeddings = []
  for normalize in (False, True):
    job = make(**{'objective.normalize_features': normalize})
    state, batch = build.init_state(job), batch_of_noise(job)
    # The last scale and offset of the encoder: features twice as long.
    norm = state.params['encoder']['stage2_block1']
    for part in ('norm2', 'shortcut_norm'):
      norm[part] = {k: 2 * v for k, v in norm[part].items()}
    _, (_, _, (long, _)) = loss_of(job, state.params, state.model_state, batch)
    state = build.init_state(job)
    _, (_, _, (z, _)) = loss_of(job, state.params, state.model_state, batch)
    embeddings.append(np.abs(long - z).max() / np.abs(z).max())
  assert embeddings[0] > 0.5
  assert embeddings[1] < 1e-5


def test_without_labels_it_is_refused():
  job = make()
  run = job.run._replace(num_classes=None)
  with pytest.raises(
    ValueError, match='supcon needs labels; the data has none'
  ):
    objectives.make(job.config, run)


def test_three_classes_may_lie_in_two_dimensions():
  job = make()
  assert 'partial collapse' in job.objective.causes
  few = objectives.make(job.config, job.run._replace(num_classes=3))
  assert 'partial collapse' not in few.causes


def test_an_image_without_a_label_is_alone():
  job = make()
  state, batch = build.init_state(job), batch_of_noise(job)
  batch['id'] = np.arange(100, 108, dtype=np.int32)
  batch['label'] = np.array([0, 0, 1, 1, -1, -1, -1, -1], np.int32)
  value = loss_of(job, state.params, state.model_state, batch)[0]
  batch['label'] = np.array([0, 0, 1, 1, 2, 3, 4, 5], np.int32)
  alone = loss_of(job, state.params, state.model_state, batch)[0]
  np.testing.assert_array_equal(value, alone)
  batch['label'] = np.array([0, 0, 1, 1, 2, 2, 2, 2], np.int32)
  together = loss_of(job, state.params, state.model_state, batch)[0]
  assert abs(float(value - together)) > 1e-3
