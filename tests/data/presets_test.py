"""Presets, and what the config's `augment` makes of them: views and errors."""

import jax
import numpy as np
import pytest

from contrastive_jax import config as config_lib
from contrastive_jax.data import augment, pipeline, presets, sources
from contrastive_jax.data.modalities import images
from contrastive_jax.training import build, ranges
from tests import tiny

PRESETS = {
  name: value
  for name, value in vars(presets).items()
  if isinstance(value, dict) and not name.startswith('_')
}
VIEWS = {
  'INSTANCE': 1,
  'INSTANCE_CIFAR': 1,
  'SUPERVISED': 1,
  'CLIP_CROPS': 1,
  'SWAV': 2 + 6,
  'VICREGL': 2 + 6,
  'DINO': 2 + 8,
  'DINO_RN50': 2 + 8,
  'DINOV2': 2 + 8,
  'MAE': 1,
  'LEJEPA': 2 + 6,
  'VISREG': 4 + 6,
  'VISREG_SMALL': 4,
}


def _config(**fields):
  config = config_lib.base()
  config.augment.update(fields)
  return config


@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_is_right_whatever_stood_before(name):
  after_all_others = _config()
  for other in PRESETS.values():
    after_all_others.augment.update(other)
  after_all_others.augment.update(PRESETS[name])
  config = _config(**PRESETS[name])
  assert after_all_others.augment == config.augment
  assert config.augment.to_dict() == PRESETS[name]
  config_lib.check_keys(config)

  ranges.check(config)
  views = images.view_specs(config)
  assert len(views) == VIEWS.get(name, 2)
  for i, view in enumerate(views):
    local = config.augment.local_size
    assert local in (96, 98)
    assert view.size == (224 if i < len(config.augment.blur) else local)
    shape = (2, view.size, view.size, 3)
    out = jax.eval_shape(
      lambda images, ids, i=i: augment.augment_view(
        images, view=i, ids=ids, epochs=ids, seed=0, config=config.augment
      ),
      jax.ShapeDtypeStruct(shape, np.uint8),
      jax.ShapeDtypeStruct((2,), np.int32),
    )
    assert out.shape == shape and out.dtype == np.float32


def test_the_default_is_simclr():
  assert config_lib.base().augment.to_dict() == presets.SIMCLR


def _multi_crop():
  """2 global views of 8 and 3 local crops of 4 pixels."""
  config = tiny.config()
  config.data.image_size = 8
  config.augment.update(local_crops=3, local_size=4, local_scale=(0.2, 0.4))
  return config


@jax.jit
def _draw(batch, seed):
  return tuple(
    augment.augment_view(
      images,
      view=i,
      ids=batch['id'],
      epochs=batch['epoch'],
      seed=seed,
      config=_multi_crop().augment,
    )
    for i, images in enumerate(batch['views'])
  )


def _digits_views(batch_size: int, steps: int, seed: int = 0) -> dict:
  """Returns (id, epoch) -> views as cropped, and as augmented."""
  batches = pipeline.TrainBatches(
    sources.load('digits').train,
    images.view_specs(_multi_crop()),
    batch_size=batch_size,
    seed=seed,
  )
  found = {}
  for _ in range(steps):
    batch = next(batches)
    drawn = jax.device_get(_draw(batch, seed))
    for views in (batch['views'], drawn):
      sides = [view.shape[1:] for view in views]
      assert sides == [(8, 8, 1)] * 2 + [(4, 4, 1)] * 3
    for row, key in enumerate(zip(batch['id'], batch['epoch'], strict=True)):
      found[key] = (
        [view[row] for view in batch['views']],
        [view[row] for view in drawn],
      )
  batches.close()
  return found


def test_crops_of_two_sizes_hang_on_seed_epoch_id_and_view_only():
  small = _digits_views(16, 20)
  large = _digits_views(320, 1)
  assert len(small) == 320 and set(small) == set(large)
  for key, (cropped, drawn) in small.items():
    for a, b in zip(cropped, large[key][0], strict=True):
      np.testing.assert_array_equal(a, b)
    for a, b in zip(drawn, large[key][1], strict=True):
      np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)

  other = _digits_views(320, 1, seed=1)
  changed = []
  for key in set(large) & set(other):
    mine, theirs = large[key][0][2:], other[key][0][2:]
    changed += [(mine[0] != mine[1]).any(), (mine[1] != mine[2]).any()]
    changed += [(a != b).any() for a, b in zip(mine, theirs, strict=True)]
  # Some crops of 4 of 8 pixels are at the same of 25 places, or all black.
  assert np.mean(changed) > 0.9


def test_view_specs_are_global_views_then_local_crops():
  ratio = (3 / 4, 4 / 3)
  scale = tiny.config().augment.crop_scale
  rule = 'torchvision'
  assert images.view_specs(_multi_crop()) == [
    pipeline.View(8, scale, ratio, rule),
    pipeline.View(8, scale, ratio, rule),
    *[pipeline.View(4, (0.2, 0.4), ratio, rule)] * 3,
  ]
  assert len(build.example_batch(build.build(_multi_crop()))['views']) == 5


@pytest.mark.parametrize(
  ('fields', 'sentence'),
  [
    (
      {'local_crops': 1, 'local_size': 8},
      'local crops of 8 pixels are not smaller than the 8 of the images',
    ),
    ({'local_crops': -1}, 'local_crops is -1: it must be at least 0'),
    ({'local_size': 0}, 'local_size is 0: it must be at least 1'),
    (
      {'local_scale': (0.0, 0.5)},
      r'\(0.0, 0.5\), with an entry 0.0: it',
    ),
    ({'local_scale': (0.5, 1.5)}, r'local_scale is \(0.5, 1.5\)'),
    ({'crop_scale': (0.5, 0.2)}, r'crop_scale is \(0.5, 0.2\)'),
    ({'local_blur': 1.5}, 'local_blur is 1.5: it must be at least 0 and'),
    ({'blur': (0.5, -0.5)}, r'with an entry -0.5: it must be at least 0'),
    ({'blur': (), 'solarize': ()}, 'augment.blur is empty'),
    (
      {'stages': ('flip', 'jitter', 'grayscale', 'blur', 'posterize')},
      'names each of flip, jitter, grayscale, blur, solarize once, not',
    ),
    ({'stages': ('flip', 'jitter')}, r"once, not \('flip', 'jitter'\)"),
    (
      {'stages': ('flip', 'flip', 'jitter', 'grayscale', 'blur', 'solarize')},
      'augment.stages names each of .* once',
    ),
  ],
)
def test_what_cannot_be_is_one_sentence(fields, sentence):
  config = tiny.config()
  config.augment.update(fields)
  with pytest.raises(ValueError, match=sentence):
    build.build(config)
