"""Folders as people have them: splits, classes, links, what is passed over."""

import os
import pathlib

import numpy as np
import PIL.Image
import pytest

from contrastive_jax.data import pipeline, sources
from contrastive_jax.data import split as split_lib
from contrastive_jax.data.sources import _layout, _scan


def _make(root, images):
  """Writes so many images into each folder."""
  for folder, count in images.items():
    for i in range(count):
      path = root / folder / f'{i}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      PIL.Image.new('RGB', (8, 8), (i, i, i)).save(path)


def _load(root):
  return sources.load(f'folder:{root}')


def _said(source):
  return '\n'.join(source.notes)


@pytest.mark.parametrize(
  'train, test',
  [
    ('train', 'valid'),
    ('training', 'validation'),
    ('train2017', 'val2017'),
    ('Train_images', 'Test_images'),
    ('TRAIN', 'VAL'),
    ('Training Set', 'Testing Set'),
    ('trainset', 'evalset'),
    ('TrainImages', 'TestImages'),
    ('train-64x64', 'val-64x64'),
    ('imgs_train', 'imgs_dev'),
    ('trainA', 'testA'),
    ('train_00000_of_00010', 'holdout'),
    ('seg_train', 'seg_test'),
    ('DIV2K_train_HR', 'DIV2K_valid_LR'),
    ('Training', 'PublicTest'),
    ('labeled', 'test'),
    ('unlabelled', 'test'),
  ],
)
def test_no_name_of_a_split_is_a_class(tmp_path, train, test):
  _make(tmp_path, {f'{train}/{c}': 5 for c in 'ab'})
  _make(tmp_path, {f'{test}/{c}': 3 for c in 'ab'})
  source = _load(tmp_path)
  assert (source.train.size, source.test.size) == (10, 6)
  assert source.train.class_names == source.test.class_names == ('a', 'b')
  assert all(f'/{train}/' in path for path in source.train.paths)
  assert f'trained on {train}/ (10), tested on {test}/ (6)' in _said(source)


@pytest.mark.parametrize(
  'name',
  'cat trains trainer train_station test_tube valley devices bullet_train '
  'contest 00000000000000000000000000000000x'.split(),
)
def test_other_names_are_classes(tmp_path, name):
  assert _layout.kind_of(name) is None
  _make(tmp_path, {name: 5, 'bus': 5})
  assert _load(tmp_path).train.class_names == tuple(sorted([name, 'bus']))


@pytest.mark.parametrize(
  'folders, sentence',
  [
    (('cat', 'dog', 'train'), 'train/ has the name of a split, and cat/ .*tra'),
    (('cat', 'dog', 'Test2'), 'Test2/ has the name of a split, and cat/'),
    (('test/a', 'test/b', 'val/a'), 'test/ is there and no train/'),
    (('train/bus', 'train/train', 'test/a'), 'train/ has the folder train/'),
    (('cat/train', 'cat/test', 'dog/train'), 'cat/ has the splits test/, tra'),
    (('train2014/a', 'train2017/b', 'val2017/a'), 'are of several years'),
  ],
)
def test_names_that_contradict_each_other_are_refused(
  tmp_path, folders, sentence
):
  _make(tmp_path, dict.fromkeys(folders, 2))
  with pytest.raises(ValueError, match=sentence):
    _load(tmp_path)


def test_splits_in_parts_and_splits_that_are_not_used(tmp_path):
  _make(
    tmp_path, {'train.X1/a': 3, 'train.X2/b': 3, 'val.X/a': 1, 'val.X/b': 1}
  )
  _make(tmp_path, {'unlabeled': 7, 'test': 2, 'extra/a': 4})
  source = _load(tmp_path)
  assert (source.train.size, source.test.size) == (6, 2)
  assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
  said = _said(source)
  assert 'trained on train.X1/, train.X2/ (6), tested on val.X/ (2)' in said
  assert 'test/ (2 images) is not used' in said  # it has no labels
  assert 'extra/ (4 images) is not used' in said
  assert 'unlabeled/ (7 images) is not used: folder:PATH/unlabeled' in said


def test_an_unlabeled_part_is_no_class(tmp_path):
  _make(tmp_path, {'cat': 5, 'dog': 5, 'unlabeled': 5})
  source = _load(tmp_path)
  assert source.train.class_names == ('cat', 'dog')
  assert 'unlabeled/ (5 images) is not used' in _said(source)


def test_validation_within_trainval_is_not_tested_on(tmp_path):
  for split in ('trainval', 'val', 'test'):
    _make(tmp_path, {f'{split}/a': 2, f'{split}/b': 2})
  source = _load(tmp_path)
  assert 'trained on trainval/ (4), tested on test/ (4)' in _said(source)
  assert 'val/ (4 images) is not used' in _said(source)


@pytest.mark.parametrize('wrap', ['data', 'a/b/c', 'train', 'images'])
def test_a_wrapping_folder_is_entered(tmp_path, wrap):
  _make(tmp_path, {f'{wrap}/cat': 10, f'{wrap}/dog': 5})
  source = _load(tmp_path)
  assert source.train.class_names == ('cat', 'dog')
  assert source.test.labels.tolist() == [0, 0, 1]
  said = _said(source)
  assert f'trained on {wrap}/, less a fifth of every class' in said
  assert f'classes are the folders in {wrap}/: cat (10), dog (5)' in said


def test_splits_in_a_wrapping_folder_and_folders_within_splits(tmp_path):
  _make(tmp_path, {f'set/train/train/{c}': 20 for c in 'ab'})
  _make(tmp_path, {f'set/test/images/{c}': 3 for c in 'ab'})
  _make(tmp_path, {'set': 1, '.': 1})
  source = _load(tmp_path)
  assert (source.train.size, source.test.size) == (40, 6)
  assert source.train.class_names == ('a', 'b')
  assert 'images beside the folders: 2 (0.png, ...)' in _said(source)


@pytest.mark.parametrize('split', ['.', 'train', 'whole/train'])
def test_masks_are_no_class(tmp_path, split):
  _make(tmp_path, {f'{split}/images/{c}': 5 for c in 'ab'})
  _make(tmp_path, {f'{split}/masks': 10, f'{split}/depth_maps': 10})
  source = _load(tmp_path)
  assert source.train.class_names == ('a', 'b')
  assert 'images beside the folders: 20' in _said(source)
  # Without images/ beside it, it may well be one.
  _make(tmp_path / 'faces', {'mask': 5, 'no_mask': 5})
  assert _load(tmp_path / 'faces').train.class_names == ('mask', 'no_mask')


def test_masks_are_not_trained_on_where_there_are_no_classes(tmp_path):
  _make(tmp_path, {'images': 10, 'masks': 10, '.': 1})
  source = _load(tmp_path)
  assert source.train.size == 11 and source.train.labels is None
  assert 'images beside the folders: 10 (masks/0.png, ...)' in _said(source)


@pytest.mark.parametrize('name', ['images_{:03}', 'part{}', 'fold-{}'])
def test_numbered_parts_are_no_classes(tmp_path, name):
  parts = [name.format(i) for i in range(1, 4)]
  _make(tmp_path / 'flat', dict.fromkeys(parts, 3))
  source = _load(tmp_path / 'flat')
  assert source.train.size == 9 and source.train.labels is None
  assert f'trained on all of {parts[0]}/...{parts[-1]}/' in _said(source)
  _make(tmp_path / 'deep', {f'{p}/{c}': 5 for p in parts for c in 'ab'})
  assert _load(tmp_path / 'deep').train.class_names == ('a', 'b')


def test_a_stray_image_drops_no_labels(tmp_path):
  _make(tmp_path, {'cat': 10, 'dog': 10, '.': 2})
  source = _load(tmp_path)
  assert source.train.class_names == ('cat', 'dog')
  assert source.train.size + source.test.size == 20
  assert 'passed over: images beside the folders: 2 (0.png, ...)' in _said(
    source
  )
  # Of many it is not known what they are: none is left out.
  _make(tmp_path, {'.': 3})
  source = _load(tmp_path)
  assert source.train.labels is None and source.train.size == 23
  assert 'no labels: 3 of 23 images lie beside the 2 folders' in _said(source)


@pytest.mark.parametrize(
  'name',
  [
    *('@eaDir', '.thumbnails', 'lost+found', '$RECYCLE.BIN', '#recycle'),
    *('System Volume Information', '__MACOSX', 'Thumbs', '.cache'),
  ],
)
def test_what_systems_leave_is_neither_a_class_nor_an_image(tmp_path, name):
  _make(tmp_path, {'cat': 5, 'dog': 5, name: 5, f'cat/{name}/1.jpg': 2})
  (tmp_path / 'cat' / 'Thumbs.db').write_bytes(b'')
  source = _load(tmp_path)
  assert source.train.class_names == ('cat', 'dog')
  assert source.train.size + source.test.size == 10
  assert name in _said(source) and '1 .db' in _said(source)


def test_what_is_passed_over_is_counted(tmp_path):
  _make(tmp_path, {'cat': 6, 'dog': 5, 'empty': 1})
  (tmp_path / 'empty' / '0.png').rename(tmp_path / 'empty' / '0.EPS')
  PIL.Image.new('RGB', (8, 8)).save(tmp_path / 'cat' / 'x.JPG')
  (tmp_path / 'cat' / 'x.txt').write_text('')
  (tmp_path / 'dog' / 'README').write_text('')
  os.symlink('nowhere.png', tmp_path / 'dog' / 'broken.png')
  os.mkfifo(tmp_path / 'dog' / 'pipe.png')  # opening it would wait forever
  said = _said(_load(tmp_path))
  assert '12 images (11 .png, 1 .jpg)' in said
  assert '1 .txt, 1 without a suffix' in said and '1 .eps' in said
  assert 'broken links: 1 (dog/broken.png)' in said
  assert 'neither files nor folders: 1 (dog/pipe.png)' in said
  assert 'folders without images: empty/' in said


def test_folders_that_cannot_be_read_are_said(tmp_path, monkeypatch):
  _make(tmp_path, {'cat': 5, 'dog': 5, 'dog/secret': 5})
  scandir = os.scandir

  def refusing(path):
    if str(path).endswith('secret'):
      raise PermissionError(path)
    return scandir(path)

  monkeypatch.setattr(_scan.os, 'scandir', refusing)
  source = _load(tmp_path)
  assert source.train.size + source.test.size == 10
  assert 'folders that cannot be read: 1 (dog/secret/)' in _said(source)


def test_what_is_held_out_is_said():
  source = split_lib.held_out(sources.load('digits'), 0.1)
  assert source.notes == (
    'held out of training, in the place of the test split: 143 images '
    '(data.held_out=0.1)',
  )


def test_many_classes_are_summed_up(tmp_path):
  _make(tmp_path, {f'c{i:02}': 1 + i for i in range(12)})
  assert 'c09 (10) and 2 more, all of 1 to 12 images' in _said(_load(tmp_path))


def test_a_link_takes_nothing_out_of_training(tmp_path):
  _make(tmp_path, {'train/a': 5, 'train/b': 5, 'test/a': 2})
  os.symlink('../train/b', tmp_path / 'test' / 'b')
  os.symlink('../../train/a/0.png', tmp_path / 'test' / 'a' / 'linked.png')
  source = _load(tmp_path)
  assert source.train.labels.tolist() == [0] * 5 + [1] * 5
  assert source.test.labels.tolist() == [0, 0]  # one class of the two
  assert (
    'links to what is here already: 2 (test/a/linked.png, test/b)'
    in _said(source)
  )


def test_links_to_the_outside_count_once_and_for_training(tmp_path):
  _make(tmp_path, {'store/a': 5, 'store/b': 5, 'data/test/a': 1})
  _make(tmp_path, {'data/test/b': 1, '.hidden': 1})
  (tmp_path / 'data' / 'train').mkdir()
  for c in 'ab':
    os.symlink(f'../../store/{c}', tmp_path / 'data' / 'train' / c)
  os.symlink('../../store/a', tmp_path / 'data' / 'test' / 'again')
  os.symlink('../../store/b/0.png', tmp_path / 'data' / 'test' / 'b' / 'x.png')
  # A store of contents, as annexes have it: files without names of their own.
  os.symlink('../../../.hidden/0.png', tmp_path / 'data/test/a/own.png')
  source = _load(tmp_path / 'data')
  assert source.train.labels.tolist() == [0] * 5 + [1] * 5
  assert [pathlib.Path(p).name for p in source.test.paths] == [
    *('0.png', 'own.png'),
    '0.png',
  ]


def test_links_in_circles_end(tmp_path):
  _make(tmp_path, {'data/cat': 2, 'data/dog': 2, 'other': 3})
  os.symlink('.', tmp_path / 'data' / 'cat' / 'self')
  os.symlink('../..', tmp_path / 'data' / 'dog' / 'around')
  source = _load(tmp_path / 'data')
  assert source.train.size == 4
  assert 'links to a folder around this one: 1 (dog/around)' in _said(source)


def test_names_that_are_no_utf8_are_read_and_can_be_printed(tmp_path):
  odd = os.fsencode(tmp_path) + b'/caf\xe9'
  os.mkdir(odd)
  _make(tmp_path, {'tea': 4})
  for i in range(4):
    os.link(tmp_path / 'tea' / f'{i}.png', odd + b'/\xff%d.png' % i)
  source = _load(tmp_path)
  assert source.train.class_names == (r'caf\xe9', 'tea')
  assert source.train.describe(0).endswith(r'caf\xe9/\xff0.png')
  (_said(source) + source.train.describe(0)).encode()
  batches = pipeline.eval_batches(
    source.train, image_size=8, crop=1, batch_size=8
  )
  (batch,) = list(batches)
  assert np.sum(batch['mask']) == source.train.size
  inside = sources.load(f'folder:{os.fsdecode(odd)}')
  (inside.name + inside.train.name + _said(inside)).encode()
