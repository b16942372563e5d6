"""WebDataset shards: which samples there are, and that each is read once."""

import io
import json
import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image

from contrastive_jax import config as config_lib
from contrastive_jax import train
from contrastive_jax.data import pipeline, sources
from tests import tiny

VIEW = pipeline.View(size=8, scale=(0.5, 1.0), ratio=(1.0, 1.0))


def png(level):
  data = io.BytesIO()
  Image.fromarray(np.full((12, 10, 3), level, np.uint8)).save(data, 'PNG')
  return data.getvalue()


def shard(path, members):
  with tarfile.open(path, 'w') as archive:
    for name, data in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path):
  """Four shards of five images; image i is of gray 10 i, its class i % 2."""
  for s in range(4):
    members = {}
    for i in range(5 * s, 5 * s + 5):
      members[f'{i:04}.png'] = png(10 * i)
      members[f'{i:04}.cls'] = str(i % 2).encode()
    shard(tmp_path / f'train-{s:03}.tar', members)
  return f'{tmp_path}/train-{{000..003}}.tar'


def test_rows_are_counted_and_labeled(shards):
  source = sources.load(f'tar:{shards}')
  assert source.train.size == 20 and source.test is None
  assert source.train.class_names == ('0', '1')
  np.testing.assert_array_equal(source.train.labels, np.arange(20) % 2)
  for i in (0, 7, 19):
    assert (source.train.reader.image(i) == 10 * i).all()
  assert source.train.describe(7) == 'train-001.tar/0007'
  assert '20 images in 4 shards' in source.notes[0]


def test_shards_of_one_name_are_told_apart(tmp_path):
  """By the folders that they are in, wherever all of them lie."""
  for name in ('train', 'test'):
    (tmp_path / name).mkdir()
    shard(tmp_path / name / '0.tar', {'a.png': png(10), 'b.png': png(20)})
  source = sources.load(
    f'tar:{tmp_path}/train/0.tar?test={tmp_path}/test/0.tar'
  )
  assert source.train.describe(1) == 'train/0.tar/b'
  assert source.test.describe(1) == 'test/0.tar/b'


@pytest.mark.parametrize('processes', [1, 2])
def test_an_epoch_has_each_once_in_an_order_of_the_seed(shards, processes):
  """And a resumed one goes on where it was."""
  split = sources.load(f'tar:{shards}').train

  def rows(start_step, steps):
    found = []
    per_process = [
      pipeline.TrainBatches(
        split,
        [VIEW],
        batch_size=10,
        seed=3,
        start_step=start_step,
        process_index=process,
        process_count=processes,
      )
      for process in range(processes)
    ]
    for _ in range(steps):
      parts = [next(batches) for batches in per_process]
      for part in parts:
        expected = 10 * part['id'][:, None, None, None]
        assert (part['views'][0] == expected).all()
      found.append(np.concatenate([part['id'] for part in parts]).tolist())
    for batches in per_process:
      batches.close()
    return found

  whole = rows(0, 4)
  assert sorted(whole[0] + whole[1]) == list(range(20))
  assert whole[2:] == rows(2, 2)
  assert whole[:2] != whole[2:]


def test_test_shards_and_the_main_job(shards, tmp_path):
  members = {}
  for i in range(6):
    members[f'{i}.png'] = png(10 * i)
    members[f'{i}.json'] = json.dumps({'label': i % 2}).encode()
  shard(tmp_path / 'val.tar', members)
  config = tiny.config()
  config.update_from_flattened_dict(
    {
      'batch_size': 8,
      'steps': 2,
      'data.source': f'tar:{shards}?test={tmp_path}/val.tar',
      'evaluation.labels_per_class': 2,
      'evaluation.knn_k': 3,
    }
  )
  summary = train.pretrain(config, tmp_path / 'run')
  assert summary['test_images'] == 6


def test_names_are_webdatasets(tmp_path):
  """What is a key, and what is no sample."""
  shard(
    tmp_path / 'a.tar',
    {
      'dir.v2/one.jpg.png': png(1),  # the suffix is jpg.png: no image
      './two.PNG': png(2),
      'three.seg.png': png(3),
      'three.png': png(4),
      'three.webp': png(5),  # of the same key
      '.hidden.png': png(6),
      'README': b'nothing',
      'four.cls': b'1',  # without an image
      'five.png': png(7),
      'five.txt': b'a caption',
    },
  )
  source = sources.load(f'tar:{tmp_path}/a.tar')
  keys = [key.split('/', 1)[1] for key in source.train.keys]
  assert keys == ['./two', 'three', 'five']
  said = ' '.join(source.notes)
  for what in (
    '1 images more of one key',
    '1 labels without an image',
    '1 .jpg.png',
    '1 .seg.png',
    '1 have a caption',
  ):
    assert what in said
  assert source.train.num_classes is None
  assert source.train.captions == ('', '', 'a caption')


def test_a_shard_that_is_cut_is_said_and_a_missing_one_counted(shards):
  third = shards.replace('{000..003}', '002')
  with open(third, 'r+b') as file:
    file.truncate(3000)
  with pytest.raises(config_lib.Error, match=r'train-002\.tar cannot be read'):
    sources.load(f'tar:{shards}')
  source = sources.load(f'tar:{shards.replace("{000..003}", "*0[013]")}')
  assert source.train.size == 15
  pathlib.Path(third).unlink()
  source = sources.load(f'tar:{shards}')
  assert source.train.size == 15
  assert '1 shards of the pattern are not there' in source.notes[1]


def test_an_unreadable_image_is_named(shards, tmp_path):
  shard(tmp_path / 'bad.tar', {'x.png': b'no image', 'y.png': png(1)})
  split = sources.load(f'tar:{tmp_path}/bad.tar').train
  batches = pipeline.TrainBatches(split, [VIEW], batch_size=2, seed=0)
  batch = next(batches)
  assert batch['id'].tolist() == [1, 1]
  assert batches.unreadable == {0: 'bad.tar/x'}
  batches.close()


def test_what_is_no_pattern_is_one_sentence(tmp_path):
  for where, sentence in {
    f'{tmp_path}/none-*.tar': 'there is no such shard',
    f'{tmp_path}/{{003..001}}.tar': 'counts down',
    f'{tmp_path}/a.tar?split=x': 'test=PATTERN alone',
  }.items():
    with pytest.raises(config_lib.Error, match=sentence):
      sources.load(f'tar:{where}')
  with tarfile.open(tmp_path / 'a.tar.gz', 'w:gz') as archive:
    info = tarfile.TarInfo('a.png')
    archive.addfile(info, io.BytesIO(b''))
  with pytest.raises(config_lib.Error, match='it is compressed, unpack it'):
    sources.load(f'tar:{tmp_path}/a.tar.gz')
