"""What is chosen for a folder of images, some devices and a time."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
from PIL import Image

from contrastive_jax import config as config_lib
from contrastive_jax import get_config
from contrastive_jax.data import sources
from contrastive_jax.data.split import from_arrays
from contrastive_jax.training import build, sizing, workfolder

CPU = sizing.Devices('cpu', 2, 12e9)
GPU = sizing.Devices('gpu', 1, 16e9)


def _split(images: int, side: int):
  split = from_arrays(
    'some', np.zeros((2, side, side, 3), np.uint8), None, None
  )
  return dataclasses.replace(split, size=images)


def _chosen(images=5_000, side=64, minutes=60.0, devices=CPU, **fields):
  config = get_config('my_images')
  config.minutes = minutes
  config.update_from_flattened_dict(fields)
  notes = sizing.choose(config, _split(images, side), devices)
  return config, notes


def _seconds(config, images, devices):
  """By a formula of its own: 3 x 1.81e9 x ... operations a view."""
  side, width = config.data.image_size, config.encoder.width
  operations = {'resnet18': 1.81e9, 'resnet50': 4.09e9}[config.encoder.name]
  operations *= (side / 224) ** 2 * (width / 64) ** 2
  operations *= 16 if side <= 64 else 1
  each = 3 * operations / sizing._SPEED[devices.kind]
  if devices.kind == 'cpu':
    each += side**2 / sizing._PIXELS_A_SECOND['cpu']
  return config.epochs * images * 2 * each / devices.count


@pytest.mark.parametrize(
  ('images', 'side', 'minutes', 'devices'),
  [
    *itertools.product(
      (300, 5_000, 60_000), (28, 64, 300), (10, 60, 1000), (CPU,)
    ),
    *itertools.product((300, 60_000, 1_200_000), (32, 500), (60, 600), (GPU,)),
  ],
)
def test_the_time_is_kept_and_used(images, side, minutes, devices):
  config, _ = _chosen(images, side, minutes, devices)
  estimate = _seconds(config, images, devices) / 60
  one_epoch = estimate / config.epochs
  assert estimate <= minutes or config.epochs == 1
  assert config.epochs == 1000 or estimate > minutes - one_epoch
  assert config.data.image_size <= max(side, 32)
  assert config.batch_size <= images
  assert config.batch_size % devices.count == 0


def test_more_time_never_buys_less_computation():
  for devices, side in itertools.product((CPU, GPU), (28, 300)):
    costs = []
    for minutes in (1, 10, 100, 1000, 10_000):
      config, _ = _chosen(60_000, side, minutes, devices)
      costs.append(_seconds(config, 60_000, devices) / config.epochs)
    assert (np.diff(costs) > -1e-6).all()
    assert costs[0] < costs[-1]


def test_what_is_set_stays():
  config, notes = _chosen(
    minutes=600.0,
    **{'batch_size': 48, 'encoder.width': 16, 'optimizer.name': 'sgd'},
  )
  assert config.batch_size == 48
  assert config.encoder.width == 16
  assert config.optimizer.name == 'sgd'
  assert config.optimizer.base_learning_rate == 0.03
  assert not any('batch_size=' in n or 'width=' in n for n in notes)
  assert any(n.startswith('data.image_size=64') for n in notes)


def test_weights_of_others_have_the_full_width():
  config, _ = _chosen(side=300, minutes=10.0, **{'encoder.init': 'a.pth'})
  assert config.encoder.width == 64
  config, _ = _chosen(side=300, minutes=10.0)
  assert config.encoder.width < 64


def test_a_choice_follows_from_what_was_set():
  narrow, _ = _chosen(side=300, minutes=200.0, **{'encoder.width': 16})
  wide, _ = _chosen(side=300, minutes=200.0, **{'encoder.width': 64})
  assert narrow.data.image_size > wide.data.image_size
  large, _ = _chosen(batch_size=1024)
  assert large.optimizer.name == 'lars'
  assert large.optimizer.base_learning_rate == 0.3


def test_memory_limits_the_batch():
  # 0.5 of 2 GB for 2 views of 130 MB: 3 images, which the least batch exceeds.
  fields = {'encoder.name': 'resnet50', 'encoder.width': 64}
  fields['data.image_size'] = 224
  little, notes = _chosen(
    1_000_000, 300, 1e5, GPU._replace(memory=2e9), **fields
  )
  assert little.batch_size == 32
  assert any('memory' in n for n in notes)
  # 0.5 of 64 GB: 123 images, so 64.
  much, _ = _chosen(1_000_000, 300, 1e5, GPU._replace(memory=64e9), **fields)
  assert much.batch_size == 64


def test_few_images_get_batches_enough():
  assert _chosen(400)[0].batch_size == 32
  assert _chosen(1_438)[0].batch_size == 128  # the recipe for digits
  assert _chosen(100_000)[0].batch_size == 256
  assert _chosen(20)[0].batch_size == 20


def test_an_encoder_from_outside_is_taken_to_be_a_resnet50():
  known, _ = _chosen(**{'encoder.name': 'resnet50'})
  unknown, _ = _chosen(**{'encoder.name': 'mine:encoder'})
  assert unknown.encoder.name == 'mine:encoder'
  assert unknown.epochs == known.epochs


@pytest.mark.parametrize('minutes', [None, 0.0, -1.0])
def test_without_a_time_nothing_can_be_chosen(minutes):
  with pytest.raises(config_lib.Error, match='config.minutes is'):
    _chosen(minutes=minutes)


def test_the_typical_side_of_files(tmp_path):
  for i, (width, height) in enumerate([(200, 100), (130, 300), (90, 90)]):
    Image.new('RGB', (width, height)).save(tmp_path / f'{i}.png')
  (tmp_path / 'no_image.png').write_bytes(b'no image')
  split = sources.load(f'folder:{tmp_path}').train
  assert sizing._typical_side(split) == 100


def test_a_job_is_built_of_the_choices_and_says_them():
  config = get_config('my_images', 'digits')
  config.minutes = 5.0
  job = build.build(config)
  assert config.batch_size is None  # it was copied
  assert job.run.batch_size == job.config.batch_size == 128
  assert job.run.input_shape == (8, 8, 1)
  assert job.notes[1].startswith('batch_size=128: at least 10 batches of 1,438')
  assert job.run.total_steps == job.config.epochs * job.run.steps_per_epoch


def test_a_continued_run_keeps_its_choices(tmp_path):
  config = get_config('my_images', 'digits')
  config.minutes = 5.0
  job = build.build(config, build.step.make_mesh(jax.devices()[:1]))
  workfolder.write_config(job, tmp_path)
  # On other devices other epochs would be chosen.
  assert build.build(config).config.epochs != job.config.epochs
  again = workfolder.take_choices(config, tmp_path)
  assert build.build(again).config == job.config
  assert config.epochs is None
  # What the user sets now is not overwritten, and is refused later.
  config.batch_size = 64
  assert workfolder.take_choices(config, tmp_path).batch_size == 64
  # Of another time other choices follow.
  config.minutes = 6.0
  assert workfolder.take_choices(config, tmp_path).epochs is None
  assert json.loads((tmp_path / 'config.json').read_text())['minutes'] == 5.0
