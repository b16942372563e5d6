"""Protocols put to a work folder: what is read, chosen, kept and refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from contrastive_jax import build, evaluate, workfolder
from contrastive_jax.checkpoint import Checkpoints
from contrastive_jax.data import sources
from contrastive_jax.evaluation import encoder, finetune
from tests import tiny


def work_folder(path, config):
  """A run's folder whose checkpoint is the state before the first step."""
  job = build.build(config)
  workfolder.write_config(job, path)
  with Checkpoints(path / 'checkpoints', every_steps=1, keep=1) as checkpoints:
    state = build.init_state(job)
    checkpoints.save(3, state.replace(step=state.step + 3), force=True)
  return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return work_folder(tmp_path_factory.mktemp('run'), tiny.config())


def test_results_are_kept_by_protocol(folder, capsys):
  evaluate.evaluate(folder, ['knn'], baselines=True)
  found = evaluate.evaluate(folder, ['linear_dino'], transfer=['digits'])
  stored = json.loads((folder / 'evaluation.json').read_text())
  assert stored == json.loads(json.dumps(found))
  assert stored['step'] == 3
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
    assert result['examples'] == 359 and result['data'] == 'digits test'
  pixels = [r for r in stored['results'] if r['representation'] == 'raw pixels']
  assert max(r['value'] for r in pixels) > 0.95
  assert 'raw pixels, digits test: k=' in capsys.readouterr().out
  lines = evaluate.spread([stored, stored])
  assert len(lines) == 3 and '± 0.00' in lines[0]


def test_no_choice_hangs_on_test_labels(folder, monkeypatch):
  chosen, predictions = [], []

  def scored(protocol, representation, source, setting, predicted, labels):
    chosen[-1].append(setting)
    predictions[-1].append(np.asarray(predicted))
    value = float(np.mean(predicted == labels))
    return {'headline': True, 'value': value}

  monkeypatch.setattr(evaluate, '_result', scored)
  monkeypatch.setattr(evaluate, 'line', str)
  monkeypatch.setattr(evaluate, '_store', lambda workdir, step, found: found)
  load = encoder.load
  values = []
  for poison in (False, True):

    def loaded(workdir, poison=poison):
      job, state = load(workdir)
      test = job.source.test
      labels = (test.labels + 1) % 10 if poison else test.labels
      test = dataclasses.replace(test, labels=labels)
      return job._replace(source=job.source._replace(test=test)), state

    monkeypatch.setattr(encoder, 'load', loaded)
    chosen.append([])
    predictions.append([])
    found = evaluate.evaluate(folder, ['knn', 'linear', 'linear_lbfgs'])
    values.append([result['value'] for result in found])
  assert chosen[0] == chosen[1]
  for ours, theirs in zip(*predictions, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert values[0] != values[1]


def test_fine_tuning_starts_from_the_encoder(folder, monkeypatch):
  monkeypatch.setattr(finetune, '_LEAST_STEPS', 1)
  trained = []
  run = finetune._train
  monkeypatch.setattr(
    finetune, '_train', lambda *args: trained.append(run(*args)) or trained[-1]
  )
  monkeypatch.setattr(finetune, 'LEARNING_RATES', (0.0,))
  job, state = encoder.load(folder)
  # Test labels that cannot be read, for nothing is chosen by them.
  test = dataclasses.replace(job.source.test, labels=None)
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
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match='config.json is damaged'):
    evaluate.evaluate(tmp_path, ['knn'])
  with pytest.raises(
    ValueError, match="unknown protocol 'knnn'; there are knn"
  ):
    evaluate.evaluate(folder, ['knnn'])
  with pytest.raises(ValueError, match='finetune_200: there are 0 to 100 %'):
    evaluate.evaluate(folder, ['finetune_200'])


def test_labels_that_are_not_there(folder, monkeypatch):
  load = encoder.load

  def unlabelled(workdir):
    job, state = load(workdir)
    blank = dict(labels=None, num_classes=None, class_names=None)
    train, test = (dataclasses.replace(s, **blank) for s in job.source[1:] if s)
    return job._replace(source=sources.Source('mine', train, test)), state

  monkeypatch.setattr(encoder, 'load', unlabelled)
  with pytest.raises(ValueError, match='knn needs labels, and mine has none'):
    evaluate.evaluate(folder, ['knn'])
