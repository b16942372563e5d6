"""Embeddings: exact rows, kept over a kill, the same on any devices."""

import csv
import html
import itertools
import json
import os
import pathlib
import re

import jax
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from contrastive_jax import embed as command
from contrastive_jax import train
from contrastive_jax.commands import command_line
from contrastive_jax.evaluation import embed, encoder, tables
from contrastive_jax.evaluation.store import Store
from contrastive_jax.reporting import neighbors
from contrastive_jax.training import step
from tests import processes_test, tiny


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp('runs') / 'digits'
  config = tiny.config()
  config.evaluation.baselines = False
  train.pretrain(config, path)
  return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> pathlib.Path:
  """24 images in two classes, one of them broken, a copy and two links."""
  path = tmp_path_factory.mktemp('images')
  rng = np.random.default_rng(0)
  for name in ('cat', 'dog'):
    (path / name).mkdir()
    for i in range(12):
      pixels = rng.integers(0, 256, (9, 20), np.uint8)
      Image.fromarray(pixels).save(path / name / f'{i:02}.png')
  (path / 'cat' / '03.png').write_text('no image')
  (path / 'dog' / 'copy.png').write_bytes((path / 'cat/01.png').read_bytes())
  (path / 'dog' / 'link.png').symlink_to('../cat/01.png')
  (path / 'cat' / 'second link.png').symlink_to('../dog/02.png')
  return path


@pytest.fixture
def small_chunks(monkeypatch):
  monkeypatch.setattr(embed, '_CHUNK', 256)


@pytest.fixture(autouse=True)
def devices_as_they_are(monkeypatch):
  monkeypatch.setattr(command_line, 'set_up_cpu', lambda devices: None)


def embedded(workdir, output, *, layer='encoder', devices=None, **options):
  images = options.pop('images', None)
  given = embed.opened(workdir, images, say=options.pop('say', str))
  if devices:
    mesh = step.make_mesh(jax.devices()[:devices])
    given = given._replace(job=given.job._replace(mesh=mesh))
  encode = encoder.frozen(given.job, layer)(given.state)
  about = {'layer': layer}
  return given, embed.compute(
    given, encode, f'{output}.part', about, say=str, **options
  )


def test_a_row_an_image_in_order(workdir, tmp_path, small_chunks):
  given, found = embedded(workdir, tmp_path / 'a')
  job, state = given.job, given.state
  np.testing.assert_array_equal(found.numbers, np.arange(1797))
  rows = [
    encoder.encode(job, encoder.frozen(job)(state), split)
    for split in job.source[1:3]
  ]
  vectors, labels, _ = map(np.concatenate, zip(*rows, strict=True))
  np.testing.assert_array_equal(found.labels, labels)
  np.testing.assert_allclose(found.vectors, vectors, atol=1e-5)
  assert found.names([0, 1796]) == ['digits train #0', 'digits test #358']
  tables.write(found, tmp_path / 'a.npz')
  tables.write(found, tmp_path / 'a.parquet')
  with np.load(tmp_path / 'a.npz') as file:
    np.testing.assert_array_equal(file['vectors'], found.vectors)
    assert list(file['ids'][[0, 1438]]) == [0, 0]
    assert list(file['splits'][[1437, 1438]]) == ['train', 'test']
    np.testing.assert_array_equal(file['labels'], labels)
    assert list(file['class_names']) == list('0123456789')
    assert json.loads(str(file['about']))['step'] == 4
    assert 'paths' not in file and not len(file['unreadable'])
  table = pyarrow.parquet.read_table(tmp_path / 'a.parquet')
  assert table.column_names == ['id', 'split', 'label', 'vector']
  assert table['label'].to_pylist() == [str(label) for label in labels]
  rows = np.stack(table['vector'].to_numpy())
  np.testing.assert_array_equal(rows, found.vectors)
  found.store.remove()
  assert not (tmp_path / 'a.part').exists()


def test_one_device_and_eight(workdir, tmp_path):
  given, eight = embedded(workdir, tmp_path / '8', layer='projector')
  _, one = embedded(workdir, tmp_path / '1', layer='projector', devices=1)
  assert given.job.mesh.size == 8
  assert eight.vectors.shape == (1797, 64)
  np.testing.assert_allclose(one.vectors, eight.vectors, atol=1e-5)
  np.testing.assert_array_equal(one.numbers, eight.numbers)


# Runs in each of two processes, on two devices each.
_CHILD = """
import sys
import jax
jax.config.update('jax_num_cpu_devices', 2)
process, port, workdir, folder = int(sys.argv[1]), *sys.argv[2:]
jax.distributed.initialize(f'127.0.0.1:{port}', 2, process)
import numpy as np
from contrastive_jax.evaluation import embed, encoder
embed._CHUNK = 256
given = embed.opened(workdir)
encode = encoder.frozen(given.job)(given.state)
found = embed.compute(given, encode, f'{folder}/part', {'layer': 'encoder'})
arrays = dict(vectors=found.vectors, numbers=found.numbers)
np.savez(f'{folder}/{process}.npz', **arrays)
"""


def test_two_processes(workdir, tmp_path):
  port = processes_test.free_port()
  arguments = [str(port), str(workdir), str(tmp_path)]
  processes_test.finish(
    processes_test.start_pair(lambda p: ['-c', _CHILD, str(p), *arguments])
  )
  _, one = embedded(workdir, tmp_path / 'one', devices=1)
  for process in range(2):
    with np.load(tmp_path / f'{process}.npz') as file:
      np.testing.assert_array_equal(file['numbers'], np.arange(1797))
      np.testing.assert_allclose(file['vectors'], one.vectors, atol=1e-5)


@pytest.mark.parametrize('chunk', [0, 2, 6])
def test_killed_and_continued(
  workdir, tmp_path, small_chunks, monkeypatch, chunk
):
  _, whole = embedded(workdir, tmp_path / 'whole')
  write_progress, extract = Store._write_progress, embed.features.extract
  calls = itertools.count()  # one before the first chunk, one after each

  def killed(self):
    if next(calls) == chunk + 1:
      raise KeyboardInterrupt  # what is in the files does not count yet
    write_progress(self)

  monkeypatch.setattr(Store, '_write_progress', killed)
  with pytest.raises(KeyboardInterrupt):
    embedded(workdir, tmp_path / 'killed')
  monkeypatch.setattr(Store, '_write_progress', write_progress)
  computed, said = [], []

  def counted(encode, batches, **options):
    found = extract(encode, batches, **options)
    computed.append(len(found[0]))
    return found

  monkeypatch.setattr(embed.features, 'extract', counted)
  given = embed.opened(workdir, say=said.append)
  encode = encoder.frozen(given.job)(given.state)
  found = embed.compute(
    given,
    encode,
    tmp_path / 'killed.part',
    {'layer': 'encoder'},
    say=said.append,
  )
  done = {0: 0, 2: 512, 6: 1438}[chunk]
  assert said == [f'{done:,} images are done already'] * bool(done)
  assert sum(computed) == 1797 - done
  np.testing.assert_array_equal(found.vectors, whole.vectors)
  np.testing.assert_array_equal(found.numbers, whole.numbers)
  np.testing.assert_array_equal(found.labels, whole.labels)
  with pytest.raises(ValueError, match='beginning of another call .layer enc'):
    embedded(workdir, tmp_path / 'killed', layer='projector')


def test_a_folder(workdir, folder, tmp_path):
  _, found = embedded(workdir, tmp_path / 'a', images=f'folder:{folder}')
  names = found.names(found.numbers)
  assert len(names) == len(set(names)) == 24
  assert found.names(found.unreadable) == [f'{folder}/cat/03.png']
  assert found.class_names() == ('cat', 'dog')
  for name, label in zip(names, found.labels, strict=True):
    assert pathlib.Path(name).parent.name == ('cat', 'dog')[label]
  assert 'cannot be read: 1 (' in embed.left_out([names[0]])[0]
  _, squeezed = embedded(
    workdir, tmp_path / 'b', images=f'folder:{folder}', whole_image=True
  )
  # By hand: all of the image, resized as the central part would be.
  assert np.abs(squeezed.vectors - found.vectors).max() > 1e-3
  tables.write(found, tmp_path / 'a.parquet')
  table = pyarrow.parquet.read_table(tmp_path / 'a.parquet')
  assert table['path'].to_pylist() == names
  metadata = table.schema.metadata
  assert json.loads(metadata[b'unreadable']) == [f'{folder}/cat/03.png']
  tables.write(found, tmp_path / 'a.npz')
  with np.load(tmp_path / 'a.npz') as file:
    assert list(file['paths']) == names


def test_the_whole_image_is_what_is_seen(workdir, tmp_path):
  """Two halves that the central square does not tell apart."""
  job, _ = encoder.load(workdir)
  images = np.zeros((1, 8, 32, 1), np.uint8)
  images[:, :, :8] = 255
  split = embed.split_lib.from_arrays('bars', images, None, None)
  options = dict(batch_size=1, process_index=0, process_count=1)
  (crop,) = job.modality.eval_batches(split, **options)
  (whole,) = job.modality.eval_batches(split, crop=None, **options)
  assert crop['input'].max() == 0
  assert (whole['input'][0, :, 0] > 250).all()
  assert (whole['input'][0, :, 4:] == 0).all()


def test_copies_and_links(workdir, folder, tmp_path, capsys):
  output = tmp_path / 'found.npz'
  command.main(
    [
      'embed',
      f'--workdir={workdir}',
      f'--images=folder:{folder}',
      f'--output={output}',
      '--duplicates=1',
      '--neighbors=5',
    ]
  )
  said = capsys.readouterr().out
  assert '2 groups of 3 images' in said and '1 of them copies' in said
  assert 'and 2 links' in said and '24 images' in said
  assert f'read: 1 ({folder}/cat/03.png)' in said
  with (tmp_path / 'found.duplicates.csv').open() as file:
    rows = list(csv.DictReader(file))
  found = {
    (row['group'], os.path.relpath(row['path'], folder), row['why'])
    for row in rows
  }
  by_path = {path: group for group, path, _ in found}
  one, two = by_path['cat/01.png'], by_path['dog/02.png']
  names = [row['path'] for row in rows if not row['why']]
  head = next(n for n in names if not n.endswith('02.png'))
  assert head in (f'{folder}/cat/01.png', f'{folder}/dog/copy.png')
  assert {path for group, path, _ in found if group == one} == {
    'cat/01.png',
    'dog/copy.png',
    'dog/link.png',
  }
  assert {path for group, path, _ in found if group == two} == {
    'dog/02.png',
    'cat/second link.png',
  }
  whys = {path: why for _, path, why in found}
  assert whys['dog/link.png'].startswith('link to ')
  assert any(why == f'copy of {head}' for why in whys.values())
  page = (tmp_path / 'found.neighbors.html').read_text()
  pictures = re.findall(r'<img[^>]*alt="([^"]*)"[^>]*src="data:image/png', page)
  assert len(pictures) == 24 * 6  # fewer than 30 queries
  assert {html.unescape(p) for p in pictures} <= {
    *map(str, folder.rglob('*.png'))
  }
  # Nothing is fetched.
  assert not re.search(r'(src|href)="(?!data:)|https?://|url\(', page)


def test_neighbors_are_the_nearest_others(workdir, tmp_path):
  given, found = embedded(workdir, tmp_path / 'a')
  vectors = np.array(found.vectors)
  vectors[100] = vectors[7]  # a copy
  found = found._replace(vectors=vectors)
  rows, index, similarity = neighbors.nearest(found, 4, seed=3)
  assert len(rows) == 30 and (index != rows[:, None]).all()
  again, *_ = neighbors.nearest(found, 4, seed=3)
  np.testing.assert_array_equal(rows, again)
  assert (neighbors.nearest(found, 4, seed=4)[0] != rows).any()
  unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  alike = unit[rows] @ unit.T
  alike[np.arange(30), rows] = -1
  expected = -np.sort(-alike, axis=1)[:, :4]
  np.testing.assert_allclose(similarity, expected, atol=1e-5)
  output = tmp_path / 'page.html'
  neighbors.write(found, given.job, 4, output, seed=3)
  page = output.read_text()
  assert page.count('<img') == 150 and 'class="right"' in page
  assert f'digits train #{rows[0]}' in page


@pytest.mark.parametrize(
  'flags, sentence',
  [
    (['--output=a.txt'], r'a.txt is no .npz or .parquet file'),
    (['--output=/nowhere/a.npz'], 'there is no folder /nowhere'),
    (['--duplicates=1.5'], r'--duplicates=1.5 is not in \(0, 1\]'),
    (['--duplicates=nan'], r'--duplicates=nan is not in \(0, 1\]'),
    (['--neighbors=1797'], r'--neighbors=1797: of 1,797 images each has 1 to'),
    (['--neighbors=3', '--seed=-1'], '--seed=-1 is below 0'),
    (['--layer=predictor'], 'simclr has no predictor; .* is: projector'),
    (['--step=3'], 'no checkpoint of step 3'),
    (['--images=folder:/nowhere'], 'there is no folder /nowhere'),
    (['--images=nothing'], "unknown data source 'nothing'"),
    (['--workdir=/nowhere'], 'not a work folder'),
    (['--images={unlabeled}', '--split=test'], 'has no test split'),
  ],
)
def test_what_is_refused(workdir, tmp_path, flags, sentence, folder):
  flags = [flag.format(unlabeled=f'folder:{folder}/cat') for flag in flags]
  arguments = ['', f'--workdir={workdir}', f'--output={tmp_path}/a.npz', *flags]
  with pytest.raises(SystemExit, match=f'^error: .*{sentence}'):
    command.main(arguments)
  assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else(workdir, tmp_path):
  (tmp_path / 'a.part').mkdir()
  (tmp_path / 'a.part' / 'diary.txt').write_text('dear')
  with pytest.raises(ValueError, match='a.part is there, and no beginning'):
    embedded(workdir, tmp_path / 'a')
  (tmp_path / 'a.part' / 'diary.txt').unlink()
  _, found = embedded(workdir, tmp_path / 'a')
  (tmp_path / 'a.part' / 'vectors.float32').write_bytes(b'short')
  with pytest.raises(ValueError, match='vectors.float32 is damaged: delete'):
    embedded(workdir, tmp_path / 'a')


def test_nothing_can_be_read(workdir, tmp_path):
  for name in 'abc':
    (tmp_path / f'{name}.png').write_text('no image')
  with pytest.raises(ValueError, match='none of the images .* can be read'):
    embedded(workdir, tmp_path / 'x', images=f'folder:{tmp_path}')


def test_pyarrow_is_missing(monkeypatch, tmp_path):
  monkeypatch.setattr(tables.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match='takes pyarrow: pip install pyarrow'):
    tables.check(tmp_path / 'a.parquet')
