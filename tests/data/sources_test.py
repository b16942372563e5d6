"""Where images come from: formats, labels, splits, and what is refused."""

import gzip
import io
import os
import pathlib

import numpy as np
import PIL.Image
import pytest
import skimage.data
import tensorflow_datasets as tfds

from contrastive_jax.data import decode, pipeline, readers, sources
from contrastive_jax.data import split as split_lib
from contrastive_jax.data.sources import tfds as tfds_source

_DEBIAN = pathlib.Path('/usr/share/datasets/fashion-mnist')


def _photo(width=48, height=32, shift=0):
  image = PIL.Image.fromarray(skimage.data.astronaut())
  box = (shift, shift, shift + 300, shift + 200)
  return image.resize((width, height), PIL.Image.Resampling.BICUBIC, box=box)


def _save(image, path, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  image.save(path, **options)


def _write_idx(path, array):
  head = bytes([0, 0, 8, array.ndim])
  head += b''.join(n.to_bytes(4, 'big') for n in array.shape)
  with (gzip.open if path.suffix == '.gz' else open)(path, 'wb') as f:
    f.write(head + array.tobytes())


def test_digits_are_split_by_class_and_scaled():
  train, test = sources.load('digits')[1:3]
  assert (train.size, test.size) == (1438, 359)
  assert train.image_shape == (8, 8) and train.channels == 1
  assert train.reader.images.min() == 0 and train.reader.images.max() == 255
  share = np.bincount(test.labels) / (
    np.bincount(test.labels) + np.bincount(train.labels)
  )
  np.testing.assert_allclose(share, 0.2, atol=0.005)
  seen = {i.tobytes() for i in train.reader.images} & {
    i.tobytes() for i in test.reader.images
  }
  assert not seen
  assert train.describe(12) == 'digits train #12'


def test_held_out_is_of_train_and_test_is_gone():
  train, test = sources.load('digits')[1:3]
  rest, held = split_lib.held_out(sources.load('digits'), 0.1)[1:3]
  assert (rest.size, held.size) == (1295, 143)
  together = np.concatenate([rest.reader.images, held.reader.images])
  assert {i.tobytes() for i in together} == {
    i.tobytes() for i in train.reader.images
  }
  assert not {i.tobytes() for i in together} & {
    i.tobytes() for i in test.reader.images
  }
  np.testing.assert_allclose(
    np.bincount(held.labels), 0.1 * np.bincount(train.labels), atol=0.5
  )
  with pytest.raises(ValueError, match='leaves 1438 to train on and 0 held'):
    split_lib.held_out(sources.load('digits'), 0.001)


def test_channels_are_repeated():
  split = sources.load('digits', channels=3).train
  assert split.channels == 3
  np.testing.assert_array_equal(
    split.reader.images[..., 0], split.reader.images[..., 2]
  )


def test_idx_reads_plain_and_gz_and_may_lack_labels(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (20, 5, 7), np.uint8)
  _write_idx(tmp_path / 'train-images-idx3-ubyte.gz', images)
  _write_idx(tmp_path / 't10k-images-idx3-ubyte', images[:4])
  labels = np.arange(20, dtype=np.uint8) % 3
  _write_idx(tmp_path / 'train-labels-idx1-ubyte', labels)
  source = sources.load(f'idx:{tmp_path}')
  np.testing.assert_array_equal(source.train.reader.images[..., 0], images)
  np.testing.assert_array_equal(source.train.labels, labels)
  assert source.train.num_classes == 3
  assert source.test.labels is None and source.test.num_classes is None
  assert source.notes == (
    'no labels of the test images: there is no t10k-labels-idx1-ubyte',
  )


@pytest.mark.skipif(not _DEBIAN.is_dir(), reason='no dataset-fashion-mnist')
def test_idx_reads_debians_fashion_mnist():
  source = sources.load(f'idx:{_DEBIAN}')
  assert (source.train.size, source.test.size) == (60000, 10000)
  assert source.train.image_shape == (28, 28)
  np.testing.assert_array_equal(np.bincount(source.test.labels), [1000] * 10)


def test_idx_refuses_damage(tmp_path):
  images = np.zeros((20, 5, 7), np.uint8)
  path = tmp_path / 'train-images-idx3-ubyte'
  with pytest.raises(FileNotFoundError, match='no folder'):
    sources.load(f'idx:{tmp_path / "absent"}')
  with pytest.raises(FileNotFoundError, match='no train-images-idx3-ubyte'):
    sources.load(f'idx:{tmp_path}')
  _write_idx(path, images)
  _write_idx(tmp_path / 'train-labels-idx1-ubyte', np.zeros(19, np.uint8))
  with pytest.raises(ValueError, match='20 train images but 19 labels'):
    sources.load(f'idx:{tmp_path}')
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match='promises 700 bytes .* holds 600'):
    sources.load(f'idx:{tmp_path}')
  _write_idx(path, np.zeros(20, np.uint8))
  with pytest.raises(ValueError, match='0x00000801, not with the 0x00000803'):
    sources.load(f'idx:{tmp_path}')
  whole = gzip.compress(b'\0\0\x08\3' + bytes(5000))
  path.unlink()
  path.with_suffix('.gz').write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match='cannot be read'):
    sources.load(f'idx:{tmp_path}')


def test_folder_flat_has_no_labels_and_no_test(tmp_path):
  for i, name in enumerate(['b.JPG', 'a.jpeg', 'c.png', 'D.WebP']):
    _save(_photo(shift=i), tmp_path / name)
  (tmp_path / 'notes.txt').write_text('no image')
  (tmp_path / '._a.jpeg').write_bytes(b'resource fork')
  _save(_photo(), tmp_path / '__MACOSX' / 'a.jpeg')
  _save(_photo(), tmp_path / '.cache' / 'a.jpeg')
  os.symlink(tmp_path, tmp_path / 'loop')
  train, test = sources.load(f'folder:{tmp_path}')[1:3]
  names = [pathlib.Path(p).name for p in train.paths]
  assert names == ['D.WebP', 'a.jpeg', 'b.JPG', 'c.png']
  assert train.labels is None and train.num_classes is None and test is None
  assert train.describe(1) == str(tmp_path / 'a.jpeg')


def test_folder_of_classes_gives_up_a_fifth(tmp_path):
  for i in range(20):
    _save(_photo(8, 8), tmp_path / 'cat' / f'{i % 2}' / f'{i}.png')
  for i in range(10):
    _save(_photo(8, 8), tmp_path / 'dog' / f'{i}.png')
  train, test = sources.load(f'folder:{tmp_path}')[1:3]
  assert train.class_names == test.class_names == ('cat', 'dog')
  assert np.bincount(test.labels).tolist() == [4, 2]
  assert not set(train.paths) & set(test.paths)
  again = sources.load(f'folder:{tmp_path}')
  assert again.test.paths == test.paths
  for path, label in zip(test.paths, test.labels, strict=True):
    assert ('cat', 'dog')[label] in path


def test_folder_with_train_and_val(tmp_path):
  for split, n in (('train', 3), ('val', 2)):
    for c in 'ab':
      for i in range(n):
        _save(_photo(8, 8), tmp_path / split / c / f'{i}.png')
  _save(_photo(8, 8), tmp_path / 'test' / 'x.png')  # unlabeled: val is better
  train, test = sources.load(f'folder:{tmp_path}')[1:3]
  assert (train.size, test.size) == (6, 4)
  assert test.labels.tolist() == [0, 0, 1, 1]
  _save(_photo(8, 8), tmp_path / 'val' / 'c' / 'x.png')
  with pytest.raises(
    ValueError, match=r'class c, which training has not \(1 im'
  ):
    sources.load(f'folder:{tmp_path}')


@pytest.mark.parametrize(
  'name, mode, options',
  [
    ('rgb.png', 'RGB', {}),
    ('rgb.jpg', 'RGB', {}),
    ('progressive.jpg', 'RGB', {'progressive': True}),
    ('gray.jpg', 'L', {}),
    ('gray.png', 'L', {}),
    ('bits.png', '1', {}),
    ('rgba.png', 'RGBA', {}),
    ('gray_alpha.png', 'LA', {}),
    ('palette.png', 'P', {}),
    ('cmyk.jpg', 'CMYK', {}),
    ('lossy.webp', 'RGB', {}),
    ('rgba.webp', 'RGBA', {'lossless': True, 'exact': True}),
  ],
)
def test_every_kind_of_file_is_what_pillow_says(name, mode, options):
  photo = _photo()
  if 'A' in mode:
    alpha = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (32, 1))
    photo.putalpha(PIL.Image.fromarray(alpha))
  data = io.BytesIO()
  kind = {'jpg': 'jpeg'}.get(name.split('.')[1], name.split('.')[1])
  photo.convert(mode).save(data, kind, **options)
  ours = decode.decode_image(decode.tf.constant(data.getvalue()), 3).numpy()
  data = io.BytesIO(data.getvalue())
  theirs = PIL.Image.open(data)
  if 'A' in mode:
    white = PIL.Image.new('RGBA', theirs.size, 'white')
    theirs = PIL.Image.alpha_composite(white, theirs.convert('RGBA'))
  theirs = np.asarray(theirs.convert('RGB'))
  np.testing.assert_allclose(ours.astype(int), theirs, atol=0)
  gray = decode.decode_image(decode.tf.constant(data.getvalue()), 1).numpy()
  luma = ours @ np.array([0.299, 0.587, 0.114])
  np.testing.assert_allclose(gray[..., 0], luma, atol=0.51)


def test_16_bits_become_8_where_nothing_says_what_is_white():
  values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
  data = io.BytesIO()
  PIL.Image.fromarray(values).save(data, 'png')
  ours = decode.decode_image(decode.tf.constant(data.getvalue()), 3).numpy()
  np.testing.assert_array_equal(ours[..., 1], values >> 8)


def test_what_is_refused(tmp_path):
  with pytest.raises(ValueError, match="'cifar'; known are arrays:FILE, csv"):
    sources.load('cifar')
  with pytest.raises(ValueError, match='unknown data source'):
    sources.load('folder:')
  with pytest.raises(ValueError, match=f'did you mean folder:{tmp_path}?'):
    sources.load(str(tmp_path))
  (tmp_path / 'a.csv').touch()
  with pytest.raises(ValueError, match=f'did you mean csv:{tmp_path}/a.csv'):
    sources.load(f'{tmp_path}/a.csv')
  (tmp_path / 'a.csv').unlink()
  with pytest.raises(ValueError, match='1 or more, not 0'):
    sources.load('digits', channels=0)
  with pytest.raises(ValueError, match='digits train .* 1 channels, not 4'):
    sources.load('digits', channels=4)
  with pytest.raises(FileNotFoundError, match='there is no folder'):
    sources.load(f'folder:{tmp_path / "absent"}')
  with pytest.raises(ValueError, match='it is empty'):
    sources.load(f'folder:{tmp_path}')
  (tmp_path / 'a.svg').write_bytes(b'')
  (tmp_path / 'b.svg').write_bytes(b'')
  with pytest.raises(ValueError, match=r'no image .* there are: 2 \.svg'):
    sources.load(f'folder:{tmp_path}')
  _save(_photo(), tmp_path / 'a.png')
  with pytest.raises(ValueError, match='only 1 image .* at least 2'):
    sources.load(f'folder:{tmp_path}')


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
  """Ten photographs of different sizes, three classes."""

  VERSION = tfds.core.Version('1.0.0')
  SHAPE = (None, None, 3)

  def _info(self):
    features = {
      'input': tfds.features.Image(shape=self.SHAPE),
      'label': tfds.features.ClassLabel(names=['x', 'y', 'z']),
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    return {'train': self._examples(10), 'validation': self._examples(4)}

  def _examples(self, n):
    for i in range(n):
      width = 40 if self.SHAPE[0] else 40 + i
      image = np.asarray(_photo(width, 32, shift=10 * i))
      yield i, {'input': image, 'label': i % 3}

  _generate_examples = _examples


class TinySquares(TinyPhotos):
  """The same, all of one known shape."""

  SHAPE = (32, 40, 3)


def _prepare(builder, folder, file_format):
  builder(data_dir=folder, file_format=file_format).download_and_prepare(
    download_config=tfds.download.DownloadConfig(
      try_download_gcs=False, num_shards=3
    )
  )


@pytest.mark.parametrize('file_format', ['tfrecord', 'array_record'])
@pytest.mark.parametrize('where', ['memory', 'disk', 'decoded'])
def test_tfds_in_both_formats_and_every_way(
  tmp_path, monkeypatch, file_format, where
):
  builder = TinySquares if where == 'decoded' else TinyPhotos
  _prepare(builder, tmp_path, file_format)
  if where == 'disk':
    monkeypatch.setattr(tfds_source, 'IN_MEMORY_BYTES', 1)
  spec = f'tfds:{builder.name}'
  source = sources.load(spec, data_dir=str(tmp_path))
  train, test = source.train, source.test
  assert (train.size, test.size, train.channels) == (10, 4, 3)
  assert train.class_names == ('x', 'y', 'z')
  assert train.describe(3) == f'{spec} train #3'
  assert isinstance(
    train.reader,
    {
      'decoded': readers.InMemory,
      'memory': readers.RandomAccess,
      'disk': readers.RandomAccess,
    }[where],
  )
  photos = [
    _photo(40 + (where != 'decoded') * i, 32, 10 * i) for i in range(10)
  ]
  crops = []
  for i, photo in enumerate(photos):
    left = (photo.width - 32) // 2
    crops.append((np.asarray(photo)[:, left : left + 32], i % 3))
  # TFDS shuffles once, when it writes: the same pictures, in its own order.
  expected = sorted((c.tobytes(), label) for c, label in crops)
  assert sorted(_all_of(train)) == expected
  # The same pictures, a part of them in the other split.
  rest, held = split_lib.held_out(source, 0.3)[1:3]
  assert rest.size + held.size == 10 and held.size in (3, 4)
  assert len(_all_of(held)) == held.size
  assert sorted(_all_of(rest) + _all_of(held)) == expected


def _all_of(split):
  """Returns (pixels, label) of all examples, as evaluation sees them."""
  found = []
  batches = pipeline.eval_batches(split, image_size=32, crop=1, batch_size=4)
  for batch in batches:
    rows = batch['mask']
    found += zip(batch['input'][rows], batch['label'][rows], strict=True)
  return [(image.tobytes(), int(label)) for image, label in found]


def test_tfds_says_what_to_do(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match=f'none is .* in {tmp_path}; .*cifar100'):
    sources.load('tfds:cifar1000', data_dir=str(tmp_path))
  monkeypatch.setattr(tfds_source, '_reachable', lambda host: False)
  with pytest.raises(
    FileNotFoundError, match=f'not prepared in {tmp_path}.*toronto.*tfds build'
  ):
    sources.load('tfds:cifar10', data_dir=str(tmp_path))
  assert not list(tmp_path.rglob('*.incomplete*'))
