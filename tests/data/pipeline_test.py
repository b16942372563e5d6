"""Order, crops and batches: exact, and what the definitions say."""

import dataclasses
import itertools
import math

import numpy as np
import PIL.Image
import pytest
import skimage.data
import sklearn.datasets

from contrastive_jax.data import crops, decode, pipeline, readers, sources
from contrastive_jax.data import split as split_lib
from contrastive_jax.data.sources import tfds as tfds_source
from tests.data.sources_test import TinyPhotos, _prepare

tf = decode.tf
_VIEWS = (
  pipeline.View(24, (0.2, 1.0), (3 / 4, 4 / 3)),
  pipeline.View(16, (0.08, 0.4), (3 / 4, 4 / 3)),
)


def _photos():
  return [
    skimage.data.astronaut(),
    skimage.data.coffee(),
    skimage.data.rocket(),
    *sklearn.datasets.load_sample_images().images,
  ]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """13 crops of photographs in two classes, of different sizes and types."""
  root = tmp_path_factory.mktemp('photos')
  rng = np.random.default_rng(0)
  for i, photo in zip(range(13), itertools.cycle(_photos()), strict=False):
    top, left = rng.integers(0, 100, 2)
    h, w = rng.integers(60, 120, 2)
    path = (
      root / 'train' / 'ab'[i % 2] / f'{i:02}.{("png", "jpg", "webp")[i % 3]}'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(photo[top : top + h, left : left + w]).save(path)
  (root / 'val').mkdir()  # without it, a fifth would be held out
  PIL.Image.fromarray(photo[:50, :50]).save(root / 'val' / 'x.png')
  return sources.load(f'folder:{root}').train


@pytest.fixture(scope='module')
def digits():
  return sources.load('digits').train


def _open_records(root):
  """Three TFRecord files that are too large for memory, allegedly."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tfds_source, 'IN_MEMORY_BYTES', 1)
    split = sources.load('tfds:tiny_photos', data_dir=str(root)).train
  assert isinstance(split.reader, readers.RandomAccess)
  return split


def _prepared_records(root):
  _prepare(TinyPhotos, root, 'tfrecord')
  return _open_records(root)


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  return _prepared_records(tmp_path_factory.mktemp('tfds'))


def _take(split, count, *, views=_VIEWS, batch_size=4, seed=0, **options):
  batches = pipeline.TrainBatches(
    split, views, batch_size=batch_size, seed=seed, **options
  )
  out = [next(batches) for _ in range(count)]
  batches.close()
  return out


def _same(a, b):
  for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.fixture(params=['digits', 'folder', 'records'])
def split(request):
  return request.getfixturevalue(request.param)


def test_batches_have_their_shapes(split):
  batch = _take(split, 1)[0]
  names = ['views', 'boxes', 'id', 'epoch', 'label', 'replaced']
  assert list(batch) == names
  assert batch['replaced'].dtype == bool and not batch['replaced'].any()
  shapes = [(v.shape, v.dtype) for v in batch['views']]
  c = split.channels
  assert shapes == [((4, 24, 24, c), np.uint8), ((4, 16, 16, c), np.uint8)]
  for key in ('id', 'epoch', 'label'):
    assert batch[key].shape == (4,) and batch[key].dtype == np.int32
  if split.labels is not None:
    np.testing.assert_array_equal(batch['label'], split.labels[batch['id']])


def test_every_epoch_is_another_permutation(split):
  steps = pipeline.steps_per_epoch(split, 2)
  batches = _take(split, 2 * steps, batch_size=2, views=_VIEWS[:1])
  ids = np.concatenate([b['id'] for b in batches]).reshape(2, -1)
  assert [len(set(e)) for e in ids] == [2 * steps] * 2
  assert ids.min() >= 0 and ids.max() < split.size
  assert (ids[0] != ids[1]).any()
  epochs = np.concatenate([b['epoch'] for b in batches])
  np.testing.assert_array_equal(epochs, np.repeat([0, 1], 2 * steps))


def test_starting_at_a_step_is_iterating_to_it(split):
  batches = _take(split, 6)
  for start in (1, 4):
    _same(_take(split, 2, start_step=start), batches[start : start + 2])


def test_two_processes_make_up_the_global_batch(split):
  whole = _take(split, 4)
  parts = [_take(split, 4, process_index=i, process_count=2) for i in range(2)]
  for both, batch in zip(zip(*parts, strict=True), whole, strict=True):
    glued = tf.nest.map_structure(lambda *x: np.concatenate(x), *both)
    _same(glued, batch)


def test_crops_hang_on_seed_epoch_id_and_view_only(folder):
  """The same example in another batch size has the same views."""
  one = _take(folder, 13, batch_size=1, views=_VIEWS[:1] * 2)
  four = _take(folder, 3, batch_size=4, views=_VIEWS[:1] * 2)
  first = {int(b['id'][0]): [v[0] for v in b['views']] for b in one}
  for batch in four:
    for row, i in enumerate(batch['id']):
      _same([v[row] for v in batch['views']], first[int(i)])
  a, b = first[0]
  assert (a != b).any()
  other_seed = _take(folder, 13, batch_size=1, seed=1)
  second = {int(b['id'][0]): b['views'][0][0] for b in other_seed}
  assert all((first[i][0] != second[i]).any() for i in first)
  other_epoch = _take(folder, 13, batch_size=1, start_step=13)
  second = {int(b['id'][0]): b['views'][0][0] for b in other_epoch}
  assert all((first[i][0] != second[i]).any() for i in first)


def test_box_follows_its_definition():
  uniform = np.random.default_rng(0).random((20_000, 22), np.float32)
  boxes = crops.random_box(uniform, [400, 400], (0.1, 0.5), (0.5, 2.0))
  top, left, h, w = boxes.numpy().T
  assert top.min() == 0 and left.min() == 0 and h.min() > 1
  assert (top + h).max() == 400 and (left + w).max() == 400
  share, log_ratio = h * w / 400**2, np.log(w / h)
  # Uniform on (0.1, 0.5), and on +-log 2: mean and variance; the sides are
  # rounded to whole pixels.
  free = (h < 400) & (w < 400)
  assert free.mean() > 0.97
  np.testing.assert_allclose(share.mean(), 0.3, atol=0.003)
  np.testing.assert_allclose(share.var(), 0.4**2 / 12, rtol=0.03)
  np.testing.assert_allclose(log_ratio.mean(), 0, atol=0.01)
  width = 2 * math.log(2)
  np.testing.assert_allclose(log_ratio.var(), width**2 / 12, rtol=0.03)
  share = (top[h < 400] / (400 - h[h < 400])).mean()
  np.testing.assert_allclose(share, 0.5, atol=0.01)


def _reference(image, box, size, interpolation):
  """Loops over the definition: crop, then half-pixel Keys or tent."""

  def kernel(d):
    d = abs(d)
    if interpolation == 'bilinear':
      return max(1 - d, 0)
    if d < 1:
      return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0

  def matrix(n):
    m = np.array(
      [
        [kernel((i + 0.5) * n / size - 0.5 - j) for j in range(n)]
        for i in range(size)
      ]
    )
    return m / m.sum(1, keepdims=True)

  top, left, h, w = box
  crop = image[top : top + h, left : left + w].astype(float)
  out = np.einsum('sh,hwc,tw->stc', matrix(h), crop, matrix(w))
  return np.round(np.clip(out, 0, 255))


@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('box', [(3, 5, 20, 30), (0, 0, 90, 120), (7, 9, 1, 2)])
def test_resizing_is_its_definition(interpolation, box):
  image = skimage.data.coffee()[:90, :120]
  expected = _reference(image, box, 40, interpolation)
  one = crops.resize(tf.constant(image), [box], [40], interpolation)[0].numpy()
  boxes = tf.constant([box])
  many = crops.resize_many(image[None], boxes, 40, interpolation)[0].numpy()
  # TensorFlow looks its cubic up in a table of 1024 entries.
  np.testing.assert_allclose(one.astype(float), expected, atol=1)
  np.testing.assert_allclose(many.astype(float), expected, atol=1)
  assert (many != expected).mean() < 0.001
  if box[2] <= 40 and box[3] <= 40:  # enlarging: Pillow does the same
    top, left, h, w = box
    crop = PIL.Image.fromarray(image[top : top + h, left : left + w])
    method = getattr(PIL.Image.Resampling, interpolation.upper())
    pillow = np.asarray(crop.resize((40, 40), method)).astype(int)
    np.testing.assert_allclose(one.astype(int), pillow, atol=1)


@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
def test_files_and_arrays_give_the_same_crops(tmp_path, interpolation):
  images = np.stack([p[40:68, 60:92] for p in _photos()])
  for i, image in enumerate(images):
    PIL.Image.fromarray(image).save(tmp_path / f'{i}.png')
  files = sources.load(f'folder:{tmp_path}').train
  arrays = split_lib.from_arrays('arrays', images, None, None)
  for a, b in zip(
    _take(files, 3, interpolation=interpolation),
    _take(arrays, 3, interpolation=interpolation),
    strict=True,
  ):
    np.testing.assert_array_equal(a['id'], b['id'])
    for x, y in zip(a['views'], b['views'], strict=True):
      np.testing.assert_allclose(x.astype(int), y, atol=1)
  options = dict(image_size=20, crop=0.875, batch_size=5)
  options['interpolation'] = interpolation
  (a,), (b,) = (
    list(pipeline.eval_batches(s, **options)) for s in (files, arrays)
  )
  np.testing.assert_allclose(a['input'].astype(int), b['input'], atol=1)


def _damaged(tmp_path):
  """Twelve good files, and three bad: truncated, text, empty."""
  for i in range(15):
    image = PIL.Image.fromarray(skimage.data.coffee()[i : i + 60, :80])
    image.save(tmp_path / f'{i:02}.jpg')
  whole = (tmp_path / '03.jpg').read_bytes()
  (tmp_path / '03.jpg').write_bytes(whole[: len(whole) // 2])
  (tmp_path / '04.jpg').write_text('not an image')
  (tmp_path / '14.jpg').write_bytes(b'')
  return sources.load(f'folder:{tmp_path}').train


def test_unreadable_files_are_replaced_and_named(tmp_path):
  split = _damaged(tmp_path)
  batches = pipeline.TrainBatches(split, _VIEWS, batch_size=5, seed=0)
  taken = [next(batches) for _ in range(3)]
  batches.close()
  ids = np.sort(np.concatenate([b['id'] for b in taken]))
  # Which of the others stand in is tested in unreadable_test.py.
  assert set(ids) == set(range(15)) - {3, 4, 14} and len(ids) == 15
  assert batches.unreadable == {i: split.paths[i] for i in (3, 4, 14)}
  for batch in taken:  # the one that stands in has the views it has anyway
    for row, i in enumerate(batch['id']):
      views = [v[row] for v in batch['views']]
      _same(views, [v[list(batch['id']).index(i)] for v in batch['views']])
  _same(_take(split, 1, batch_size=5, start_step=2)[0], taken[2])


def test_evaluation_masks_and_names_unreadable_files(tmp_path, caplog):
  split = _damaged(tmp_path)
  bad = {}
  batches = pipeline.eval_batches(
    split, image_size=16, crop=0.875, batch_size=4, unreadable=bad
  )
  ids = np.concatenate([b['id'][b['mask']] for b in batches])
  assert ids.tolist() == [i for i in range(15) if i not in (3, 4, 14)]
  assert bad == {i: split.paths[i] for i in (3, 4, 14)}
  assert all(path in caplog.text for path in bad.values())


def test_nothing_readable_is_an_error(tmp_path):
  for i in range(4):
    (tmp_path / f'{i}.png').write_text('not an image')
  split = sources.load(f'folder:{tmp_path}').train
  with pytest.raises(ValueError, match='found no readable image'):
    _take(split, 1)


def _counting(split):
  """The split, and a list of the ids that are read of it."""
  ids = []

  def counted(i):
    ids.append(int(i))
    return np.int32(i)

  def read(i):
    i = tf.ensure_shape(tf.numpy_function(counted, [i], tf.int32), [])
    return split.reader.read(i)

  reader = dataclasses.replace(split.reader, read=read)
  return dataclasses.replace(split, reader=reader), ids


@pytest.fixture(scope='module')
def many(tmp_path_factory):
  """640 small files, and as many TFRecords."""
  root = tmp_path_factory.mktemp('many')
  for i in range(640):
    image = np.full((8, 8, 3), i % 256, np.uint8)
    PIL.Image.fromarray(image).save(root / f'{i:03}.png')
  return sources.load(f'folder:{root}').train


@pytest.mark.parametrize('hosts', [1, 2, 4, 64])
@pytest.mark.parametrize('start', [0, 3])
def test_a_host_reads_its_own_rows_and_no_others(many, hosts, start):
  batch, steps, view = 128, 2, _VIEWS[:1]
  size = many.size // batch * batch
  order = np.random.default_rng([0, 0]).permutation(many.size)[:size]
  rows = order.reshape(-1, batch)[start:]
  for host in {0, hosts - 1}:
    split, read = _counting(many)
    batches = pipeline.TrainBatches(
      split,
      view,
      batch_size=batch,
      seed=0,
      start_step=start,
      process_index=host,
      process_count=hosts,
    )
    for _ in range(steps):
      next(batches)
    batches.close()
    share = batch // hosts
    own = rows[:, host * share : (host + 1) * share].ravel().tolist()
    # Those of the steps, once, and what is read ahead for later ones.
    assert set(own[: steps * share]) <= set(read)
    later = (_epoch(e, many.size, batch, host, share) for e in (1, 2, 3))
    ahead = set(own).union(*later)
    assert set(read) <= ahead
    if len(read) <= len(own):
      assert len(set(read)) == len(read)


def _epoch(epoch, size, batch, host, share):
  order = np.random.default_rng([0, epoch]).permutation(size)
  rows = order[: size // batch * batch].reshape(-1, batch)
  return rows[:, host * share : (host + 1) * share].ravel().tolist()


def test_a_damaged_record_is_replaced_and_named(tmp_path):
  # One byte of a record's image: its sum is wrong, TensorFlow notices.
  split = _prepared_records(tmp_path)
  (file, *_) = sorted(tmp_path.rglob('*train*tfrecord*'))
  data = bytearray(file.read_bytes())
  data[60] ^= 1
  file.write_bytes(data)
  batches = pipeline.TrainBatches(split, _VIEWS, batch_size=5, seed=0)
  taken = [next(batches) for _ in range(2)]
  batches.close()
  assert batches.unreadable == {0: 'tfds:tiny_photos train #0'}
  ids = np.concatenate([b['id'] for b in taken])
  assert sum(b['replaced'].sum() for b in taken) == 1 and 0 not in ids
  evaluated = pipeline.eval_batches(split, image_size=16, crop=1, batch_size=10)
  assert np.flatnonzero(~next(evaluated)['mask']).tolist() == [0]


def test_a_shard_that_was_cut_is_said(tmp_path):
  _prepared_records(tmp_path)
  (file, *_) = sorted(tmp_path.rglob('*train*tfrecord*'))
  data = file.read_bytes()
  first = 16 + int.from_bytes(data[:8], 'little')  # the whole record
  file.write_bytes(data[:first])
  with pytest.raises(ValueError, match='damaged: .* has 1 records, and not'):
    _open_records(tmp_path)


@pytest.mark.parametrize('processes', [1, 2])
def test_evaluation_sees_every_example_once(split, processes):
  limit = min(split.size, 30)
  found = []
  for p in range(processes):
    batches = list(
      pipeline.eval_batches(
        split,
        image_size=16,
        crop=0.875,
        batch_size=8,
        limit=limit,
        process_index=p,
        process_count=processes,
      )
    )
    assert len(batches) == math.ceil(limit / 8)
    for b in batches:
      assert b['input'].shape == (8 // processes, 16, 16, split.channels)
      assert (b['id'][~b['mask']] == -1).all()
    found += [b['id'][b['mask']] for b in batches]
  ids = np.concatenate(found)
  assert np.sort(ids).tolist() == list(range(limit))
  if processes == 1:
    assert ids.tolist() == list(range(limit))


def test_evaluation_takes_the_center_and_cuts_no_border_it_need_not(digits):
  batch = next(
    pipeline.eval_batches(digits, image_size=8, crop=0.5, batch_size=4)
  )
  np.testing.assert_array_equal(batch['input'], digits.reader.images[:4])
  image = skimage.data.coffee()[:60, :100]
  box = crops.central_box(image.shape[:2], 30, 0.5).numpy()
  assert box.tolist() == [15, 35, 30, 30]


def test_what_is_refused(digits):
  view = _VIEWS[:1]
  with pytest.raises(ValueError, match='batch size 1439 .* the 1438 images'):
    pipeline.TrainBatches(digits, view, batch_size=1439, seed=0)
  with pytest.raises(ValueError, match='5 is not divisible by 2 processes'):
    pipeline.TrainBatches(digits, view, batch_size=5, seed=0, process_count=2)
  with pytest.raises(ValueError, match="bicubic or bilinear, not 'area'"):
    pipeline.eval_batches(
      digits, image_size=8, crop=1, batch_size=8, interpolation='area'
    )
  with pytest.raises(ValueError, match='seed must be'):
    pipeline.TrainBatches(digits, view, batch_size=5, seed=-1)


def test_tensorflow_sees_no_accelerator():
  for kind in ('GPU', 'TPU'):
    assert not tf.config.get_visible_devices(kind)
