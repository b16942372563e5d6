"""A queue, or a bank, that does not fit the data or the run is said."""

import jax
import pytest

from contrastive_jax.training import build, step
from tests import tiny

_IMAGES = 1438  # of digits; 22 steps of 64 an epoch


def _notes(name, **changes):
  config = tiny.config_of(name)
  config.update_from_flattened_dict(changes)
  job = build.build(config, step.make_mesh(jax.devices()[:1]))
  return job.objective.notes, job.notes


@pytest.mark.parametrize('name', ['moco_small', 'nnclr_small', 'swav_small'])
def test_a_queue_larger_than_the_data(name):
  size = 45 * 22 * 64
  start = {'objective.queue_start_epoch': 0.0} if name == 'swav_small' else {}
  (note,), printed = _notes(
    name, **start, **{'objective.queue_size': size, 'steps': 10_000}
  )
  assert f'the queue of {size:,} embeddings holds 45 epochs' in note
  assert f'of the {_IMAGES:,} images' in note
  assert 'objective.queue_size=1408 holds one epoch' in note
  assert note in printed
  fitting, _ = _notes(
    name, **start, **{'objective.queue_size': 1408, 'steps': 10_000}
  )
  assert fitting == ()


@pytest.mark.parametrize('name', ['moco_small', 'nnclr_small'])
def test_a_queue_that_is_never_full(name):
  (note,), _ = _notes(name, **{'objective.queue_size': 1408, 'steps': 10})
  assert 'takes 22 steps to fill, and the run has 10' in note


def test_a_queue_that_is_never_used():
  (note,), _ = _notes(
    'swav_small',
    **{
      'objective.queue_size': 128,
      'objective.queue_start_epoch': 2.0,
      'steps': 40,
    },
  )
  assert 'used from step 46 on, and the run has 40' in note


def test_more_negatives_than_the_bank_has():
  name = 'instance_discrimination_small'
  (note,), _ = _notes(name, **{'objective.negatives': 4096})
  assert (
    'objective.negatives=4096 are drawn for each image from a bank of '
    in (note)
  )
  for negatives in (0, 100, _IMAGES):
    assert _notes(name, **{'objective.negatives': negatives})[0] == ()
