"""Arrays, from files and from Python: any bits and channels."""

import numpy as np
import pytest

from contrastive_jax.data import pipeline, sources
from contrastive_jax.data.split import source_from_arrays

_VIEWS = (pipeline.View(6, (0.2, 1.0), (3 / 4, 4 / 3)),) * 2


def _images(dtype='uint8', channels=5, count=40):
  values = np.random.default_rng(0).random((count, 6, 6, channels))
  white = {'uint8': 255, 'uint16': 4095, 'float32': 1}[dtype]
  return (values * white).astype(dtype)


def _batches(split, count, start_step=0, **processes):
  batches = pipeline.TrainBatches(
    split, _VIEWS, batch_size=8, seed=3, start_step=start_step, **processes
  )
  taken = [next(batches) for _ in range(count)]
  batches.close()
  return taken


def _evaluated(split):
  rows = [
    batch['input'][batch['mask']]
    for batch in pipeline.eval_batches(
      split, image_size=6, crop=1.0, batch_size=16
    )
  ]
  return np.concatenate(rows)


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
  'dtype, white', [('uint8', 0), ('uint16', 4095), ('float32', 1)]
)
def test_a_file_is_read_as_it_is(tmp_path, dtype, white, channels):
  images = _images(dtype, channels)
  np.save(tmp_path / 'a.npy', images)
  source = sources.load(f'arrays:{tmp_path / "a.npy"}')
  train = source.train
  assert source.test is None and (train.size, train.channels) == (40, channels)
  assert train.maximum == white and train.dtype == (
    np.float32 if white else np.uint8
  )
  expected = images / np.float32(white) if white else images
  ours = _evaluated(train)
  assert ours.dtype == train.dtype
  np.testing.assert_allclose(ours, expected, atol=1e-6)
  np.testing.assert_allclose(train.reader.image(7), expected[7], atol=1e-7)


def test_nothing_of_12_bits_is_lost():
  images = np.arange(4096, dtype=np.uint16).reshape(64, 8, 8, 1)
  train = source_from_arrays(images).train
  found = _evaluated_of_8(train)
  assert len(np.unique(found)) == 4096


def _evaluated_of_8(split):
  (batch,) = pipeline.eval_batches(split, image_size=8, crop=1.0, batch_size=64)
  return batch['input']


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
def test_order_and_crops_follow_from_seed_and_epoch_and_resume(dtype):
  train = source_from_arrays(_images(dtype)).train
  whole = _batches(train, 12)
  ids = np.concatenate([b['id'] for b in whole[:5]])
  assert sorted(ids) == list(range(40))
  for step in (1, 7):
    (resumed,) = _batches(train, 1, start_step=step)
    halves = [
      _batches(train, 1, step, process_index=i, process_count=2)[0]
      for i in range(2)
    ]
    for name in ('id', 'epoch', 'label'):
      np.testing.assert_array_equal(resumed[name], whole[step][name])
      both = np.concatenate([half[name] for half in halves])
      np.testing.assert_array_equal(both, whole[step][name])
    for v, views in enumerate(whole[step]['views']):
      assert views.dtype == train.dtype
      np.testing.assert_array_equal(resumed['views'][v], views)
      both = np.concatenate([half['views'][v] for half in halves])
      np.testing.assert_array_equal(both, views)


def test_splits_and_labels_of_a_file(tmp_path):
  path = tmp_path / 'a.npz'
  labels = np.arange(40) % 4
  np.savez(path, images=_images(), labels=labels)
  source = sources.load(f'arrays:{path}')
  assert (source.train.size, source.test.size) == (32, 8)
  assert (
    'a fifth of every class takes the place of a test spl' in source.notes[0]
  )
  assert '5 channels, taken as they are: none is alpha' in source.notes[0]
  np.savez(
    path,
    images=_images(),
    labels=labels,
    test_images=_images(count=6),
    test_labels=labels[:6],
  )
  source = sources.load(f'arrays:{path}')
  assert (source.train.size, source.test.size) == (40, 6)
  assert 'trained on 40, tested on 6' in source.notes[0]
  np.testing.assert_array_equal(source.test.labels, labels[:6])
  np.savez(path, images=_images()[..., 0])
  assert sources.load(f'arrays:{path}').train.channels == 1
  assert sources.load(f'arrays:{path}', channels=3).train.channels == 3


def test_what_a_file_must_not_be(tmp_path):
  path = tmp_path / 'a.npz'
  with pytest.raises(FileNotFoundError, match='there is no file'):
    sources.load(f'arrays:{path}')
  for content in (b'', b'no array', b'PK\3\4'):
    path.write_bytes(content)
    with pytest.raises(ValueError, match='a.npz cannot be read'):
      sources.load(f'arrays:{path}')
  np.savez(path, x_train=_images(), y_train=np.zeros(40))
  with pytest.raises(
    ValueError, match='arrays x_train, y_train: they are name'
  ):
    sources.load(f'arrays:{path}')
  np.savez(path, images=_images(), labels=np.zeros(39, int))
  with pytest.raises(
    ValueError, match='a.npz: labels have shape .39,., for 40'
  ):
    sources.load(f'arrays:{path}')
  np.savez(path, images=np.array([{}], object))
  with pytest.raises(ValueError, match='cannot be read: .*allow_pickle'):
    sources.load(f'arrays:{path}')


@pytest.mark.parametrize(
  'images, sentence',
  [
    (
      np.zeros((9, 4, 4), np.int64),
      'images are int64 of shape .* must be uint8',
    ),
    (np.zeros((9, 4), np.uint8), 'must be uint8, uint16 or float, .n, height'),
    (np.zeros((0, 4, 4), np.uint8), 'of shape'),
    (np.zeros((9, 3, 32, 32), np.uint8), 'np.moveaxis.images, 1, -1. is what'),
    (np.full((9, 4, 4), 255.0), r'from 255 to 255: they must be in \[0, 1\]'),
    (np.full((9, 4, 4), -1.0), 'negative ones have no place'),
    (np.full((9, 4, 4), np.nan), 'some values are NaN'),
  ],
)
def test_arrays_that_are_refused(images, sentence):
  with pytest.raises(ValueError, match=sentence):
    source_from_arrays(images)


def test_test_arrays_have_to_fit():
  images = _images('uint16')
  with pytest.raises(ValueError, match='of dtype uint8, the others of uint16'):
    source_from_arrays(images, test_images=_images())
  with pytest.raises(ValueError, match=r'of shape \(6, 6, 4\), the others of'):
    source_from_arrays(images, test_images=_images('uint16', 4))
  with pytest.raises(ValueError, match='test labels and no test images'):
    source_from_arrays(images, test_labels=np.zeros(40, int))


def test_white_is_chosen_from_training_and_can_be_said():
  images = np.full((9, 4, 4, 1), 1000, np.uint16)
  source = source_from_arrays(images, test_images=4 * images)
  assert source.train.maximum == source.test.maximum == 1023
  assert '1,000: taken for 10 bits, 1,023 is white' in source.notes[0]
  assert source.test.reader.image(0).max() == 1  # cut
  source = source_from_arrays(images, maximum=2000)
  assert source.train.reader.image(0).max() == 0.5
  floats = source_from_arrays(np.full((9, 4, 4), 100.0), maximum=200)
  assert floats.train.reader.image(0).max() == 0.5
