"""Tables of images: rows, labels, splits, and what is refused."""

import csv
import sys

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contrastive_jax import train
from contrastive_jax.data import pipeline, sources
from tests import tiny


def _write(root, rows, header=('path', 'label'), name='a.csv', **options):
  """Writes a table, and the images that its first column names."""
  root.mkdir(exist_ok=True)
  for i, row in enumerate(rows):
    path = root / row[0]
    path.parent.mkdir(exist_ok=True, parents=True)
    if not path.exists() and row[0]:
      PIL.Image.new('RGB', (8, 8), (i % 256, 3 * i % 256, 9)).save(path, 'png')
  with open(root / name, 'w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, **options)
    writer.writerows([header, *rows])
  return f'csv:{root / name}'


def _rows(count=20):
  # Every other one has a label; the order is not that of the names.
  return [
    (f'{"ab"[i % 2]}/{count - i}.png', ['', 'cat', '', 'dog'][i % 4])
    for i in range(count)
  ]


def test_an_empty_label_is_trained_on_and_not_measured(tmp_path):
  rows = _rows(40)
  source = sources.load(_write(tmp_path, rows))
  train_split, test = source.train, source.test
  assert (train_split.size, test.size) == (36, 4)
  assert train_split.class_names == test.class_names == ('cat', 'dog')
  assert np.bincount(1 + train_split.labels).tolist() == [20, 8, 8]
  assert np.bincount(1 + test.labels).tolist() == [0, 2, 2]
  # In the order of the rows, less those that are tested on.
  names = [path.removeprefix(f'{tmp_path}/') for path in train_split.paths]
  labels = dict(rows)
  assert names == [path for path, _ in rows if path in names]
  for name, label in zip(names, train_split.labels, strict=True):
    assert labels[name] == ('', 'cat', 'dog')[label + 1]
  assert (
    '40 images, trained on 36, tested on 4 (a fifth of every class, our '
    'choice); 20 have labels: cat (10), dog (10)' in source.notes[0]
  )


def test_a_column_of_splits(tmp_path):
  rows = [(f'{i}.png', 'xy'[i % 2], s) for i, s in enumerate(['train'] * 6)]
  rows += [(f't{i}.png', 'x', 'Test') for i in range(3)]
  rows += [(f'v{i}.png', 'y', 'valid') for i in range(2)]
  spec = _write(tmp_path, rows, ('path', 'label', 'split'))
  source = sources.load(spec)
  assert (source.train.size, source.test.size) == (6, 3)
  assert source.test.labels.tolist() == [0, 0, 0]
  assert 'val (2 images) is not used' in source.notes
  rows[0] = ('0.png', 'x', 'fold 1')
  spec = _write(tmp_path, rows, ('path', 'label', 'split'))
  with pytest.raises(ValueError, match="in 1 of 11 rows the split is 'fold 1'"):
    sources.load(spec)
  rows[0] = ('0.png', 'x', 'train')
  rows += [('z.png', 'z', 'test'), ('w.png', 'w', 'test')]
  spec = _write(tmp_path, rows, ('path', 'label', 'split'))
  with pytest.raises(
    ValueError, match=r'class w, which .* \(2 images of 2 such'
  ):
    sources.load(spec)


def test_what_is_looked_at_alone_may_be_anything(tmp_path):
  """A row each, whatever its split and its class; one image is enough."""
  rows = [('0.png', 'x', 'test'), ('1.png', 'y', 'val'), ('2.png', '', 'test')]
  spec = _write(tmp_path, rows, ('path', 'label', 'split'))
  with pytest.raises(ValueError, match='0 of 3 images are to be trained on'):
    sources.load(spec)
  source = sources.load(spec, training=False)
  assert source.train.size == 3 and source.test is None
  assert source.train.class_names == ('x', 'y')
  rows.append(('3.png', 'z', 'train'))
  spec = _write(tmp_path, rows, ('path', 'label', 'split'))
  source = sources.load(spec, training=False)
  assert (source.train.size, source.test.size) == (1, 3)
  assert source.test.labels.tolist() == [0, -1, 1]
  spec = _write(tmp_path / 'one', [('a.png', 'x')])
  assert sources.load(spec, training=False).train.size == 1
  one = f'folder:{tmp_path / "one"}'
  with pytest.raises(ValueError, match='only 1 image there'):
    sources.load(one)
  assert sources.load(one, training=False).train.size == 1
  names = ('train/x', 'train/y', 'test/y', 'test/z')
  _write(tmp_path / 'two', [(f'{name}/a.png', '') for name in names])
  source = sources.load(f'folder:{tmp_path / "two"}', training=False)
  assert source.train.class_names == ('x', 'y', 'z')
  assert source.test.labels.tolist() == [1, 2]


def test_without_labels_there_is_no_test_split(tmp_path):
  source = sources.load(
    _write(tmp_path, [(f'{i}.png',) for i in range(5)], ('path',))
  )
  assert source.train.size == 5 and source.test is None
  assert source.train.labels is None and source.train.num_classes is None
  assert 'none of those to train on has a label' in source.notes[0]


@pytest.mark.parametrize('delimiter', [';', '\t'])
def test_as_excel_writes_it(tmp_path, delimiter):
  spec = _write(tmp_path, _rows(), (' Path', 'LABEL '), delimiter=delimiter)
  path = tmp_path / 'a.csv'
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
  assert sources.load(spec).train.class_names == ('cat', 'dog')


def test_numbers_are_classes_in_their_order(tmp_path):
  rows = [(f'{i}.png', str(i % 12)) for i in range(48)]
  names = sources.load(_write(tmp_path, rows)).train.class_names
  assert names == tuple(map(str, range(12)))


def test_rows_are_counted(tmp_path):
  rows = _rows()
  spec = _write(
    tmp_path, [*rows, rows[1], (f'a/../{rows[3][0]}', 'dog')], ('path', 'label')
  )
  (tmp_path / rows[0][0]).unlink()
  (tmp_path / rows[5][0]).unlink()
  source = sources.load(spec)
  assert source.train.size + source.test.size == 18
  said = '\n'.join(source.notes)
  assert 'warning: 2 of 22 files are not there (a/20.png, b/15.png)' in said
  assert '2 of 22 rows are of a file that another row has' in said


def test_parquet_is_read_by_the_same_rules(tmp_path):
  rows = _rows()
  spec = _write(tmp_path, rows)
  table = pa.table(
    {
      'path': [path for path, _ in rows],
      'label': [{'cat': 1.0, 'dog': 2.0}.get(label) for _, label in rows],
      'width': [8] * len(rows),
    }
  )
  pq.write_table(table, tmp_path / 'a.parquet')
  ours = sources.load(f'csv:{tmp_path / "a.parquet"}')
  theirs = sources.load(spec)
  assert ours.train.paths == theirs.train.paths
  np.testing.assert_array_equal(ours.train.labels, theirs.train.labels)
  assert ours.train.class_names == ('1', '2')
  assert 'columns that are not read: width' in ours.notes


def test_parquet_says_what_to_install(tmp_path, monkeypatch):
  (tmp_path / 'a.parquet').write_bytes(b'PAR1')
  spec = f'csv:{tmp_path / "a.parquet"}'
  with pytest.raises(ValueError, match='cannot be read: '):
    sources.load(spec)
  monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
  with pytest.raises(ValueError, match='pip install pyarrow'):
    sources.load(spec)


def test_what_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='there is no file'):
    sources.load(f'csv:{tmp_path / "absent.csv"}')
  spec = _write(tmp_path, _rows(), ('file', 'label'))
  with pytest.raises(
    ValueError, match='has the columns file, label: one is na'
  ):
    sources.load(spec)
  spec = _write(tmp_path, [*_rows(), ('', 'cat')])
  with pytest.raises(ValueError, match='1 of 21 rows have no path'):
    sources.load(spec)
  spec = _write(tmp_path, [*_rows(), ('x.png', 'cat', 'more')])
  with pytest.raises(
    ValueError, match='row 21 has 3 entries, and the header 2'
  ):
    sources.load(spec)
  spec = _write(tmp_path, [*_rows(), (_rows()[1][0], 'dog')])
  with pytest.raises(
    ValueError, match='b/19.png twice, as train, cat and as train, dog'
  ):
    sources.load(spec)
  (tmp_path / 'a.csv').write_text('path,label\nx/1.png,a\nx/2.png,b\n')
  with pytest.raises(FileNotFoundError, match='none of its 2 files is there'):
    sources.load(spec)
  (tmp_path / 'a.csv').write_text('')
  with pytest.raises(ValueError, match=r'has the columns \(none\)'):
    sources.load(spec)
  (tmp_path / 'a.csv').write_bytes(b'path\n\xff\n')
  with pytest.raises(ValueError, match='cannot be read: .*utf-8'):
    sources.load(spec)


def test_order_and_resume_and_bad_rows(tmp_path):
  rows = [(f'{i}.png', 'xy'[i % 2]) for i in range(40)]
  spec = _write(tmp_path, rows)
  (tmp_path / '7.png').write_bytes(b'no image')
  split = sources.load(spec).train
  views = (pipeline.View(8, (0.2, 1.0), (3 / 4, 4 / 3)),)

  def taken(count, start=0):
    batches = pipeline.TrainBatches(
      split, views, batch_size=8, seed=1, start_step=start
    )
    found = [next(batches) for _ in range(count)]
    batches.close()
    return found, batches.unreadable

  whole, unreadable = taken(8)
  ids = np.concatenate([batch['id'] for batch in whole[:4]])
  assert len(ids) == 32 == split.size and len(set(ids)) == 31
  assert list(unreadable.values()) == [str(tmp_path / '7.png')]
  (resumed,), _ = taken(1, 6)
  np.testing.assert_array_equal(resumed['id'], whole[6]['id'])
  np.testing.assert_array_equal(resumed['views'][0], whole[6]['views'][0])


def test_a_partly_labeled_table_end_to_end(tmp_path, capsys):
  rng = np.random.default_rng(0)
  rows = []
  for i in range(120):
    color = ((220, 40, 40), (40, 40, 220))[i % 2]
    noise = rng.integers(-30, 30, (8, 8, 3))
    image = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
    path = tmp_path / f'{i}.png'
    PIL.Image.fromarray(image).save(path)
    rows.append((path.name, ('red', 'blue')[i % 2] if i < 60 else ''))
  config = tiny.get_config(_write(tmp_path, rows))
  config.batch_size, config.data.image_size = 32, 8
  summary = train.pretrain(config, tmp_path / 'run')
  said = capsys.readouterr().out
  assert '108 training images, 2 classes, 8 x 8 x 3' in said
  assert 'have no label: they are left out where labels are learned' in said
  assert 'accuracies are of 12 images' in said
  assert summary['linear_accuracy'] > 0
  assert summary['verdict']
