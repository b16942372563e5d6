"""Which parts of a TFDS dataset are read, and what would be misread."""

import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from contrastive_jax.data import sources
from contrastive_jax.data.sources import _parts
from contrastive_jax.data.sources import tfds as tfds_source

_IMAGE = tfds.features.Image(shape=(None, None, 3))
_MASK = tfds.features.LabeledImage(labels=3, shape=(None, None, 1))
_LABEL = tfds.features.ClassLabel(num_classes=3)


def _choose(features, where='x', splits=('train', 'test')):
  one = types.SimpleNamespace(num_examples=1)
  info = types.SimpleNamespace(
    features=features, splits=dict.fromkeys(splits, one)
  )
  builder = types.SimpleNamespace(info=info)
  return _parts.choose(f'tfds:{where}', builder, _parts.wanted(where))


@pytest.mark.parametrize(
  'features, image',
  [
    ({'a_mask': _IMAGE, 'photo': _IMAGE}, 'photo'),
    ({'segmentation': _IMAGE, 'photo': _IMAGE}, 'photo'),
    ({'classes': _MASK, 'photo': _IMAGE}, 'photo'),
    ({'a': _IMAGE, 'image': _IMAGE}, 'image'),
    ({'mask': _IMAGE}, 'mask'),  # there is no other
  ],
)
def test_a_mask_is_not_the_image_and_it_is_said_which_is(features, image):
  parts = _choose(features)
  assert parts.image == image
  assert f'images are its {image}' in parts.note
  for other in set(features) - {image}:
    assert f'(not {other})' in parts.note
    assert _choose(features, f'x?image={other}').image == other


@pytest.mark.parametrize(
  'feature, sentence',
  [
    (tfds.features.Image(shape=(4, 4, 1), dtype=np.float32), 'float32, and on'),
    (tfds.features.Image(shape=(4, 4, 3), dtype=np.uint16), 'uint16, and only'),
    (tfds.features.Image(shape=(4, 4, 4)), 'has 4 channels, and only 1 or 3'),
    (tfds.features.Tensor(shape=(4, 4), dtype=np.uint8), 'no image feature'),
  ],
)
def test_images_that_would_be_misread_are_refused(feature, sentence):
  with pytest.raises(ValueError, match=sentence):
    _choose({'image': feature})
  # Another image can be chosen, and is not by itself.
  with pytest.raises(ValueError, match='float32'):
    _choose(
      {
        'image': tfds.features.Image(shape=(4, 4, 1), dtype=np.float32),
        'b': _IMAGE,
      }
    )


def test_of_several_images_one_has_to_be_chosen():
  features = {'left': _IMAGE, 'right': _IMAGE}
  with pytest.raises(ValueError, match='images left, right: choose one, as in'):
    _choose(features)
  assert _choose(features, 'x?image=right').image == 'right'
  with pytest.raises(ValueError, match='no image top; its images are left, ri'):
    _choose(features, 'x?image=top')


def test_labels():
  both = {'image': _IMAGE, 'coarse': _LABEL, 'label': _LABEL}
  parts = _choose(both)
  assert parts.label == 'label'
  assert 'labels its label (not coarse)' in parts.note
  assert _choose(both, 'x?label=coarse').label == 'coarse'
  parts = _choose({'image': _IMAGE, 'a': _LABEL, 'b': _LABEL})
  assert parts.label is None
  assert 'no labels: it has a, b, chosen by ?label=NAME' in parts.note
  assert 'no labels: it has no class label' in _choose({'image': _IMAGE}).note
  with pytest.raises(ValueError, match='no class label d; it has coarse, lab'):
    _choose(both, 'x?label=d')


@pytest.mark.parametrize(
  'splits, where, train, tests',
  [
    ('train test validation', 'x', 'train', ['test', 'validation']),
    ('train val', 'x', 'train', ['val']),
    ('training unlabelled testing', 'x', 'training', ['testing']),
    ('train unlabelled test', 'x?split=unlabelled', 'unlabelled', ['test']),
    ('train test', 'x?split=test', 'test', []),
    ('train test extra', 'x?test=extra', 'train', ['extra']),
  ],
)
def test_splits(splits, where, train, tests):
  parts = _choose({'image': _IMAGE}, where, splits.split())
  assert (parts.train, parts.tests) == (train, tests)


@pytest.mark.parametrize(
  'where, sentence',
  [
    ('x?split=all', 'no split all; its splits are a, b'),
    ('x', r'no split train: choose one of a, b, as in tfds:x\?split=a'),
    ('x?color=red', "'color=red'.*there may be"),
    ('x?split=', "'split='"),
    ('x?unlabelled', "'unlabelled='.*there may be"),
  ],
)
def test_what_is_not_there(where, sentence):
  with pytest.raises(ValueError, match=sentence):
    _choose({'image': _IMAGE}, where, ('a', 'b'))


class HalfLabeled(tfds.core.GeneratorBasedBuilder):
  """Black images; every other one of training has a label."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    features = {
      'mask': tfds.features.Image(shape=(8, 8, 1)),
      'photo': tfds.features.Image(shape=(8, 8, 3)),
      'label': tfds.features.ClassLabel(names=['x', 'y']),
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(8, [-1, 0, -1, 1]),
      'unlabelled': self._generate_examples(6, [-1]),
      'test': self._generate_examples(4, [0, 1]),
    }

  def _generate_examples(self, n, labels):
    for i in range(n):
      yield (
        i,
        {
          'mask': np.full((8, 8, 1), 255, np.uint8),
          'photo': np.full((8, 8, 3), i, np.uint8),
          'label': labels[i % len(labels)],
        },
      )


@pytest.mark.parametrize('where', ['decoded', 'memory', 'disk'])
def test_an_unlabeled_split_and_labels_that_are_partly_absent(
  tmp_path, monkeypatch, where
):
  HalfLabeled(data_dir=tmp_path).download_and_prepare()
  if where != 'decoded':
    monkeypatch.setattr(tfds_source, '_DECODED_SIDE', 0)
  if where == 'disk':
    monkeypatch.setattr(tfds_source, 'IN_MEMORY_BYTES', 1)
  source = sources.load('tfds:half_labeled', data_dir=str(tmp_path))
  assert source.train.class_names == source.test.class_names == ('x', 'y')
  if where != 'disk':
    assert sorted(source.train.labels) == [-1] * 4 + [0, 0, 1, 1]
  assert source.train.reader.image(0).max() < 8  # no mask
  assert 'not used, but reached by ?split=NAME: unlabelled' in source.notes[1]
  source = sources.load(
    'tfds:half_labeled?split=unlabelled', data_dir=str(tmp_path)
  )
  assert source.train.size == 6 and source.train.num_classes is None
  assert source.test.size == 4
  assert 'trained on its split unlabelled, tested on test' in source.notes[1]
