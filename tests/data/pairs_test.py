"""Pairs of images: views come from the two in turn."""

import numpy as np
import pytest
from PIL import Image

from contrastive_jax import config as config_lib
from contrastive_jax import train
from contrastive_jax.data import pipeline, sources
from tests import tiny

VIEW = pipeline.View(size=8, scale=(0.5, 1.0), ratio=(1.0, 1.0))


def gray(level):
  return Image.fromarray(np.full((12, 10, 3), level, np.uint8))


@pytest.fixture
def folder(tmp_path):
  """20 pairs: the first of pair i is of gray 10 i, the second one brighter."""
  for i in range(20):
    gray(10 * i).save(tmp_path / f'{i}.png')
    gray(10 * i + 1).save(tmp_path / f'{i}_next.png')
  return tmp_path


def written(folder, lines, name='pairs.csv'):
  (folder / name).write_text('\n'.join(lines) + '\n')
  return f'pairs:{folder / name}'


def plain(folder, *more):
  return written(folder, [f'{i}.png,{i}_next.png' for i in range(20)] + [*more])


def test_views_are_of_both_in_turn(folder):
  source = sources.load(plain(folder))
  assert source.train.size == 20 and source.test is None
  assert '20 pairs' in source.notes[0]
  batches = pipeline.TrainBatches(
    source.train, [VIEW] * 3, batch_size=10, seed=0
  )
  seen = []
  for _ in range(2):
    batch = next(batches)
    seen += batch['id'].tolist()
    for view, plus in zip(batch['views'], (0, 1, 0), strict=True):
      expected = 10 * batch['id'] + plus
      assert (view == expected[:, None, None, None]).all()
  batches.close()
  assert sorted(seen) == list(range(20))  # an epoch: each pair once


def test_the_order_follows_from_seed_and_step(folder):
  split = sources.load(plain(folder)).train

  def batch(start_step):
    batches = pipeline.TrainBatches(
      split, [VIEW, VIEW], batch_size=10, seed=1, start_step=start_step
    )
    found = [next(batches) for _ in range(4 - start_step)][-1]
    batches.close()
    return found

  for a, b in zip(batch(0)['views'], batch(3)['views'], strict=True):
    np.testing.assert_array_equal(a, b)


def test_an_unreadable_partner_is_an_unreadable_pair(folder):
  (folder / '3_next.png').write_bytes(b'no image')
  split = sources.load(plain(folder)).train
  batches = pipeline.TrainBatches(split, [VIEW, VIEW], batch_size=20, seed=0)
  batch = next(batches)
  assert 3 not in batch['id']
  assert '3.png' in batches.unreadable[3]
  batches.close()


def test_evaluation_takes_the_first(folder):
  split = sources.load(plain(folder)).train
  batches = pipeline.eval_batches(split, image_size=8, crop=1.0, batch_size=20)
  found = next(iter(batches))
  assert (found['input'][:, 0, 0, 0] == 10 * np.arange(20)).all()


def test_columns_with_labels_and_splits(folder, tmp_path):
  lines = ['label,partner,path,split']
  lines += [
    f'{"ab"[i % 2]},{i}_next.png,{i}.png,{"test" if i > 15 else "train"}'
    for i in range(20)
  ]
  source = sources.load(written(folder, lines))
  assert (source.train.size, source.test.size) == (16, 4)
  assert source.train.class_names == ('a', 'b')
  # As csv:FILE has them: val where there is no test.
  val = [line.replace('test', 'val') for line in lines]
  assert sources.load(written(folder, val)).test.size == 4
  both = sources.load(written(folder, [*lines[:-1], val[-1]]))
  assert both.test.size == 3
  assert 'val (1 pairs) is not used' in both.notes
  config = tiny.config()
  config.update_from_flattened_dict(
    {
      'batch_size': 8,
      'steps': 2,
      'data.source': written(folder, lines),
      'evaluation.labels_per_class': 2,
      'evaluation.knn_k': 3,
    }
  )
  summary = train.pretrain(config, tmp_path / 'run')
  assert summary['test_images'] == 4


def test_what_is_left_out_is_counted(folder):
  spec = plain(folder, 'gone.png,1.png', '1.png,gone.png', '2.png,2.png')
  source = sources.load(spec)
  assert source.train.size == 21
  said = ' '.join(source.notes)
  assert 'of 2 of 23 pairs a file is not there' in said
  assert '1 pairs are an image with itself' in said


@pytest.mark.parametrize(
  ('lines', 'sentence'),
  [
    (['a.png'], 'two paths a line'),
    (['a.png,b.png,c.png'], 'two paths a line'),
    (['path,label', '1.png,a'], 'two paths a line'),
    (['path,partner', '1.png,'], '1 of 1 rows have no partner'),
    (['gone.png,gone.png'], 'of none of its 1 pairs both files are there'),
    (['1.png,2.png'], 'at least 2 are needed'),
    (['path,partner,split', '1.png,2.png,other'], 'train, test or val'),
  ],
)
def test_what_is_no_such_table_is_one_sentence(folder, lines, sentence):
  with pytest.raises(config_lib.Error, match=sentence):
    sources.load(written(folder, lines))


def test_no_file():
  with pytest.raises(config_lib.Error, match='there is no file'):
    sources.load('pairs:nowhere.csv')


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize('count', [1, 2, 3])
def test_any_number_of_views_antialiased_or_not(folder, antialias, count):
  batches = pipeline.TrainBatches(
    sources.load(plain(folder)).train,
    [VIEW] * count,
    batch_size=10,
    seed=0,
    antialias=antialias,
  )
  batch = next(batches)
  batches.close()
  for v, view in enumerate(batch['views']):
    expected = 10 * batch['id'] + v % 2
    assert (view == expected[:, None, None, None]).all()
