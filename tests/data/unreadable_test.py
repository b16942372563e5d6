"""Images that cannot be read: what takes their place, and what is said."""

import collections
import dataclasses
import json
import types

import numpy as np
import PIL.Image
import pytest

from contrastive_jax.data import pipeline, reading, sources
from contrastive_jax.data import split as split_lib
from contrastive_jax.data.tensorflow_host import tf
from contrastive_jax.training import workfolder

_VIEWS = (pipeline.View(8, (0.2, 1.0), (3 / 4, 4 / 3)),)


def _batches(split, count, *, batch_size=8, start_step=0):
  batches = pipeline.TrainBatches(
    split, _VIEWS, batch_size=batch_size, seed=0, start_step=start_step
  )
  taken = [next(batches) for _ in range(count)]
  batches.close()
  return taken, batches.unreadable


def _folder(tmp_path, count, unreadable):
  for i in range(count):
    path = tmp_path / f'{i:03}.png'
    path.parent.mkdir(exist_ok=True)
    PIL.Image.new('RGB', (8, 8), (i, i, i)).save(path)
    if i in unreadable:
      path.write_bytes(path.read_bytes()[:50])
  return sources.load(f'folder:{tmp_path}').train


@pytest.mark.parametrize('size', [2, 3, 7, 12, 64, 1000])
def test_every_id_can_take_the_place_of_every_other(size):
  steps = reading.strides(size)
  assert steps.shape == (size,) and np.all(np.gcd(steps, size) == 1)
  for wanted in range(0, size, max(1, size // 5)):
    tried = reading.passed_over(size, wanted, (wanted - steps[wanted]) % size)
    assert sorted(tried) == sorted(
      set(range(size)) - {(wanted - steps[wanted]) % size}
    )


def test_a_run_of_unreadable_files_has_many_stand_ins(tmp_path):
  bad = set(range(40, 72))
  split = _folder(tmp_path, 128, bad)
  taken, unreadable = _batches(split, 16)
  assert set(unreadable) == bad
  counts = collections.Counter(np.concatenate([b['id'] for b in taken]))
  assert sum(counts.values()) == 128 and not bad & set(counts)
  # 32 places among 96 images: three times the same is chance, eight is not.
  assert max(counts.values()) <= 1 + 3
  assert sum(n - 1 for n in counts.values()) == 32
  for batch in taken:
    np.testing.assert_array_equal(batch['views'][0][:, 0, 0, 0], batch['id'])


def test_stand_ins_are_the_same_after_a_resume(tmp_path):
  split = _folder(tmp_path, 32, {1, 2, 3, 4, 5, 20})
  whole, _ = _batches(split, 6)
  for step in (1, 3, 5):
    (resumed,), _ = _batches(split, 1, start_step=step)
    np.testing.assert_array_equal(resumed['id'], whole[step]['id'])
    for a, b in zip(resumed['views'], whole[step]['views'], strict=True):
      np.testing.assert_array_equal(a, b)


def test_a_single_readable_image_is_found(tmp_path):
  split = _folder(tmp_path, 12, set(range(12)) - {5})
  taken, unreadable = _batches(split, 1, batch_size=12)
  assert set(taken[0]['id']) == {5}
  assert set(unreadable) == set(range(12)) - {5}


def _failing(split, times):
  """The file system fails at example 3, so many times."""
  calls = []

  def fails(i):
    calls.append(i)
    if len(calls) <= times:
      raise OSError(5, 'Input/output error')
    return np.int32(i)

  def read(i):
    i = tf.cond(
      tf.equal(i, 3), lambda: tf.numpy_function(fails, [i], tf.int32), lambda: i
    )
    return split.reader.read(tf.ensure_shape(i, []))

  reader = dataclasses.replace(split.reader, read=read)
  return dataclasses.replace(split, reader=reader), calls


def test_a_read_that_failed_is_tried_again(tmp_path, monkeypatch):
  monkeypatch.setattr(reading, 'PAUSES', (0.01, 0.01, 0.01))
  split = _folder(tmp_path, 16, {5})
  whole, _ = _batches(split, 2)
  failing, calls = _failing(split, 4)
  taken, unreadable = _batches(failing, 2)
  assert list(unreadable) == [5] and len(calls) > 4
  for batch, expected in zip(taken, whole, strict=True):
    np.testing.assert_array_equal(batch['id'], expected['id'])
    np.testing.assert_array_equal(batch['views'][0], expected['views'][0])


def test_the_other_of_a_pair_is_tried_again(tmp_path, monkeypatch):
  monkeypatch.setattr(reading, 'PAUSES', (0.01, 0.01, 0.01))
  split = _folder(tmp_path, 16, set())
  failing, calls = _failing(split, 2)

  def paired(partner):
    reader = dataclasses.replace(split.reader, partner=partner)
    return dataclasses.replace(split, reader=reader)

  ours, _ = _batches(paired(lambda i: failing.reader.read(i)[0]), 2)
  theirs, _ = _batches(paired(lambda i: split.reader.read(i)[0]), 2)
  assert len(calls) > 2
  for batch, expected in zip(ours, theirs, strict=True):
    np.testing.assert_array_equal(batch['views'][0], expected['views'][0])


def test_a_file_system_that_fails_ends_the_run(tmp_path, monkeypatch):
  monkeypatch.setattr(reading, 'PAUSES', (0.01, 0.01, 0.01))
  failing, _ = _failing(_folder(tmp_path, 16, set()), 1000)
  sentence = r'003.png could not be read in 4 tries \(.*Input/output error'
  with pytest.raises(ValueError, match=sentence):
    _batches(failing, 2)
  with pytest.raises(ValueError, match=sentence):
    list(pipeline.eval_batches(failing, image_size=8, crop=1, batch_size=8))


def _reported(tmp_path, unreadable, train):
  source = split_lib.Source('these', train, None)
  return workfolder.report_unreadable(
    unreadable, types.SimpleNamespace(source=source), tmp_path
  )


def test_unreadable_json_says_which_and_why(tmp_path, capsys):
  train = _folder(tmp_path / 'images', 40, {1, 4, 7})
  (tmp_path / 'images' / '004.png').write_bytes(b'')
  # Of an earlier version, and of a part of the run before it was continued.
  (tmp_path / 'unreadable.json').write_text('[7]')
  assert _reported(tmp_path, {4: 'x'}, train) == 2
  assert _reported(tmp_path, {1: 'x'}, train) == 3
  kept = json.loads((tmp_path / 'unreadable.json').read_text())
  assert kept['4'] == f'{train.paths[4]} (empty)'
  assert kept['7'] == f'{train.paths[7]} (damaged)'
  said = capsys.readouterr().out
  assert '3 of 40 images could not be read' in said and '(empty)' in said
  assert _reported(tmp_path, {i: 'x' for i in range(30)}, train) == 30
  assert capsys.readouterr().out.endswith(', ... (unreadable.json)\n')


@pytest.mark.parametrize(
  'text', ['{', '[1, "x"]', '7', 'null', '{"a": "b"}', '[[1]]', '\x00']
)
def test_a_damaged_unreadable_json_is_said_before_any_work(tmp_path, text):
  (tmp_path / 'unreadable.json').write_text(text)
  with pytest.raises(ValueError, match='unreadable.json is damaged .* remove'):
    workfolder.write_config(types.SimpleNamespace(), tmp_path)
