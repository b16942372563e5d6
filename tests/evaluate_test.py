"""Protocols put to a work folder: what is read, chosen, kept and refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from contrastive_jax.data import split as split_lib
from contrastive_jax.evaluation import (
  correctness,
  encoder,
  finetune,
  record,
  shown,
)
from contrastive_jax.evaluation import run as evaluate
from contrastive_jax.training import build, workfolder
from contrastive_jax.training.checkpoint import Checkpoints
from experiments import small_configs
from tests import tiny


def relabeled(split, labels, **changes):
  """The split with other labels, wherever it keeps them."""
  reader = dataclasses.replace(split.reader, labels=labels)
  return dataclasses.replace(split, labels=labels, reader=reader, **changes)


def work_folder(path, config):
  """A run's folder whose checkpoint is the state before the first step."""
  job = build.build(config, encoder.fitting_mesh(config))
  workfolder.write_config(job, path)
  with Checkpoints(path / 'checkpoints', every_steps=1, keep=1) as checkpoints:
    state = build.init_state(job)
    checkpoints.save(3, state.replace(step=state.step + 3), force=True)
  return path


def with_sevens(job, count):
  """The job with so many training images of the class 7."""
  train = job.source.train
  sevens = np.flatnonzero(train.labels == 7)[:count]
  others = np.flatnonzero(train.labels != 7)
  rare = split_lib.subset(train, np.union1d(sevens, others), 'rare sevens')
  return job._replace(source=job.source._replace(train=rare))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return work_folder(tmp_path_factory.mktemp('run'), tiny.config())


def test_results_are_kept_by_protocol(folder, tmp_path, capsys):
  rng = np.random.default_rng(0)
  for name in ('dark', 'bright'):
    (tmp_path / name).mkdir()
    for i in range(10):
      pixels = rng.integers(0, 60, (8, 8)) + 190 * (name == 'bright')
      Image.fromarray(pixels.astype(np.uint8)).save(
        tmp_path / name / f'{i}.png'
      )
  evaluate.evaluate(folder, ['knn'], baselines=True)
  found = evaluate.evaluate(
    folder, ['linear_dino'], transfer=[f'folder:{tmp_path}']
  )
  stored = json.loads((folder / 'evaluation.json').read_text())
  assert stored['results'] == json.loads(json.dumps(found['results']))
  assert found['step'] == 3
  assert {r['step'] for r in stored['results']} == {3}
  headlines = [
    (r['protocol'], r['representation'])
    for r in stored['results']
    if r['headline']
  ]
  assert headlines == [
    ('knn', 'trained encoder'),
    ('knn', 'untrained encoder'),
    ('knn', 'raw pixels'),
    *2 * [('linear_dino', 'trained encoder')],  # the run's data, and another
  ]
  for result in stored['results']:
    assert result['low'] <= result['value'] <= result['high']
    right = correctness.unpack(result['right'], result['examples'])
    assert right is not None and float(np.mean(right)) == result['value']
  assert [r['data'] for r in stored['results'][:-1]] == (
    ['digits test'] * (len(stored['results']) - 1)
  )
  other = stored['results'][-1]
  assert other['examples'] == 4 and 'digits' not in other['data']
  images = [result['test_sha256'] for result in stored['results']]
  assert len(set(images[:-1])) == 1 and images[-1] not in images[:-1]
  pixels = [r for r in stored['results'] if r['representation'] == 'raw pixels']
  assert max(r['value'] for r in pixels) > 0.95
  assert 'raw pixels, digits test: k=' in capsys.readouterr().out
  lines = shown.spread([found, found])
  assert len(lines) == 5 and '± 0.00' in lines[0]


def test_no_choice_hangs_on_test_labels(folder, monkeypatch):
  chosen, predictions = [], []

  def scored(protocol, representation, source, setting, predicted, labels, _):
    chosen[-1].append(setting)
    predictions[-1].append(np.asarray(predicted))
    value = float(np.mean(predicted == labels))
    values[-1].append(value)
    return {'headline': True, 'value': value, 'examples': len(labels)}

  monkeypatch.setattr(evaluate, '_result', scored)
  monkeypatch.setattr(shown, 'line', str)
  monkeypatch.setattr(record, 'add', lambda *_: None)
  load = encoder.load
  values = []
  for poison in (False, True):

    def loaded(*args, poison=poison):
      job, state = load(*args)
      test = job.source.test
      if poison:
        labels = (test.labels + 1) % 10
        labels[0] = 10  # of a class that training does not have
        test = relabeled(test, labels, num_classes=11)
      return job._replace(source=job.source._replace(test=test)), state

    monkeypatch.setattr(encoder, 'load', loaded)
    chosen.append([])
    predictions.append([])
    values.append([])
    evaluate.evaluate(
      folder, ['knn', 'linear', 'linear_few', 'linear_lbfgs', 'linear_moco']
    )
  assert chosen[0] == chosen[1]
  for ours, theirs in zip(*predictions, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert values[0] != values[1]


def test_results_of_other_checkpoints_stay(folder, tmp_path):
  path = tmp_path / 'evaluation.json'
  result = {'protocol': 'knn', 'representation': 'x', 'data': 'y'}
  for step, value in ((3, 0.5), (9, 0.7), (3, 0.6)):
    record.add(path, [result | {'step': step, 'value': value}])
  assert [(r['step'], r['value']) for r in record.read(path)] == [
    (9, 0.7),
    (3, 0.6),
  ]
  for seed in (0, 1, 1):
    record.add(path, [result | {'step': 9, 'seed': seed}])
  assert [r.get('seed') for r in record.read(path)] == [None, None, 0, 1]
  # Of an earlier version, which kept one step.
  path.write_text(json.dumps({'step': 3, 'results': [result]}))
  assert [r['step'] for r in record.read(path)] == [3]
  # A damaged file is said before anything is computed, and stays.
  config = (folder / 'config.json').read_text()
  (tmp_path / 'config.json').write_text(config)
  (tmp_path / 'checkpoints').symlink_to(folder / 'checkpoints')
  nameless = '{"step": 3, "results": [{"protocol": "knn", "data": "x"}]}'
  for damaged in ('{"results": [', '{}', '{"results": [{}]}', nameless):
    path.write_text(damaged)
    with pytest.raises(ValueError, match='evaluation.json is damaged'):
      evaluate.evaluate(tmp_path, ['knn'])
    assert path.read_text() == damaged


@pytest.mark.parametrize('name', small_configs.NAMES)
def test_any_objective_has_an_encoder_to_train_on(name):
  """Fine-tuning starts from the weights that evaluation sees."""
  job = build.build(tiny.config_of(f'{name}_small'))
  state = jax.eval_shape(build.make_init(job))
  labeled = build.build(finetune._supervised_config(job.config))
  start = jax.eval_shape(build.make_init(labeled))
  params, model_state = job.objective.evaluated(state.params, state.model_state)
  for ours, theirs in (
    (params, start.params),
    (model_state['batch_stats'], start.model_state['batch_stats']),
  ):
    shapes = [
      jax.tree.map(lambda x: x.shape, tree['encoder'])
      for tree in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


def test_what_fails_takes_nothing_with_it(folder, monkeypatch):
  def broken(*_, **__):
    raise RuntimeError('no such luck')

  (folder / 'evaluation.json').unlink(missing_ok=True)
  load = encoder.load

  def with_few_sevens(*args):
    job, state = load(*args)
    return with_sevens(job, 8), state

  monkeypatch.setattr(encoder, 'load', with_few_sevens)
  monkeypatch.setattr(finetune, 'supervised', broken)
  found = evaluate.evaluate(folder, ['linear_few', 'linear_dino', 'supervised'])
  few, supervised = found['failed']
  assert few.startswith('linear_few, trained encoder, digits test: ')
  assert supervised == 'supervised: no such luck'
  (stored,) = json.loads((folder / 'evaluation.json').read_text())['results']
  assert stored['protocol'] == 'linear_dino'


def test_the_rate_of_fine_tuning_is_chosen_without_test_labels(
  folder, monkeypatch
):
  monkeypatch.setattr(finetune, '_LEAST_STEPS', 20)
  monkeypatch.setattr(finetune, 'LEARNING_RATES', (1e-30, 0.5))
  job, state = encoder.load(folder)
  right = finetune.finetune(job, state, 0.1, epochs=1)
  assert 'rate 0.5' in right.setting
  test = relabeled(job.source.test, (job.source.test.labels + 1) % 10)
  job = job._replace(source=job.source._replace(test=test))
  wrong = finetune.finetune(job, state, 0.1, epochs=1)
  assert wrong.setting == right.setting
  np.testing.assert_array_equal(wrong.predicted, right.predicted)
  np.testing.assert_array_equal(wrong.labels, (right.labels + 1) % 10)


def test_fine_tuning_with_an_image_that_cannot_be_read(folder, monkeypatch):
  monkeypatch.setattr(finetune, '_LEAST_STEPS', 1)
  monkeypatch.setattr(finetune, 'LEARNING_RATES', (1e-30, 0.5))
  encode = encoder.encode
  monkeypatch.setattr(
    encoder, 'encode', lambda *args: tuple(rows[1:] for rows in encode(*args))
  )
  found = evaluate.evaluate(folder, ['finetune_2', 'supervised'])
  results = {
    (r['protocol'], r['representation']): r
    for r in found['results']
    if r['protocol'] in ('finetune_2', 'supervised')
  }
  assert [r['examples'] for r in results.values()] == [358] * 3
  assert len({r['test_sha256'] for r in results.values()}) == 1
  assert results.keys() == {
    ('finetune_2', 'trained encoder'),
    ('finetune_2', 'random weights'),
    ('supervised', 'trained with labels'),
  }


def test_rare_classes_are_fine_tuned_with_what_they_have(folder, monkeypatch):
  monkeypatch.setattr(finetune, '_LEAST_STEPS', 1)
  monkeypatch.setattr(finetune, 'LEARNING_RATES', (1e-30,))
  job, state = encoder.load(folder)
  # Of the others there are some 140: a tenth would be 14 of each.
  job = with_sevens(job, 4)
  tuned = finetune.finetune(job, state, 0.1, epochs=1)
  assert tuned.setting.startswith('40 labels')


def test_one_image_a_class_leaves_nothing_to_choose_by(folder, monkeypatch):
  monkeypatch.setattr(finetune, '_LEAST_STEPS', 1)
  job, state = encoder.load(folder)
  job = with_sevens(job, 1)
  tuned = finetune.finetune(job, state, 0.1, epochs=1)
  assert tuned.setting.startswith('10 labels')
  assert f'rate {finetune.LEARNING_RATES[0]:g} ' in tuned.setting


def test_devices_that_do_not_divide_the_batch(folder, tmp_path):
  config = tiny.config()
  config.batch_size = 12
  job, _ = encoder.load(work_folder(tmp_path, config))
  assert jax.device_count() == 8 and job.mesh.size == 6


def test_fine_tuning_starts_from_the_encoder(folder, monkeypatch):
  monkeypatch.setattr(finetune, '_LEAST_STEPS', 1)
  trained = []
  run = finetune._train
  monkeypatch.setattr(
    finetune, '_train', lambda *args: trained.append(run(*args)) or trained[-1]
  )
  monkeypatch.setattr(finetune, 'LEARNING_RATES', (1e-30,))
  job, state = encoder.load(folder)
  # Test labels that cannot be read, for nothing is chosen by them.
  test = relabeled(job.source.test, None)
  job = job._replace(source=job.source._replace(test=test))
  # Other weights than those that a run of this seed begins with.
  state = state.replace(params=jax.tree.map(lambda x: x + 1, state.params))
  tuned = finetune.finetune(job, state, 0.02, epochs=1)
  assert tuned.setting.startswith('30 labels')  # 3 of each of 10 classes
  after = trained[-1][1].params['encoder']
  jax.tree.map(np.testing.assert_array_equal, after, state.params['encoder'])


def test_what_is_refused(folder, tmp_path):
  with pytest.raises(FileNotFoundError, match='not a work folder'):
    evaluate.evaluate(tmp_path, ['knn'])
  (tmp_path / 'config.json').write_text((folder / 'config.json').read_text())
  with pytest.raises(FileNotFoundError, match='no checkpoint'):
    evaluate.evaluate(tmp_path, ['knn'])
  assert not (tmp_path / 'checkpoints').exists()
  with pytest.raises(FileNotFoundError, match='of step 2; it has .* of 3$'):
    evaluate.evaluate(folder, ['knn'], step=2)
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match='config.json is damaged'):
    evaluate.evaluate(tmp_path, ['knn'])
  with pytest.raises(
    ValueError, match="unknown protocol 'knnn'; there are knn"
  ):
    evaluate.evaluate(folder, ['knnn'])
  with pytest.raises(ValueError, match='finetune_200: there are 0 to 100 %'):
    evaluate.evaluate(folder, ['finetune_200'])
  with pytest.raises(ValueError, match='transfer is of frozen features'):
    evaluate.evaluate(folder, ['finetune_10'], transfer=['digits'])


def test_labels_that_are_not_there(folder, monkeypatch):
  load = encoder.load

  def unlabeled(*args):
    job, state = load(*args)
    blank = dict(num_classes=None, class_names=None)
    train, test = (relabeled(s, None, **blank) for s in job.source[1:3])
    return job._replace(source=split_lib.Source('mine', train, test)), state

  monkeypatch.setattr(encoder, 'load', unlabeled)
  with pytest.raises(ValueError, match='knn needs labels, and mine has none'):
    evaluate.evaluate(folder, ['knn'])
  # What was trained without labels can be judged elsewhere.
  found = evaluate.evaluate(folder, ['linear_dino'], transfer=['digits'])
  assert found['results'][-1]['data'] == 'digits test'
  with pytest.raises(ValueError, match='supervised needs labels, and mine'):
    evaluate.evaluate(folder, ['knn', 'supervised'], transfer=['digits'])
