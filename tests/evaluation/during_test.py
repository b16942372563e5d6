"""What is measured while a run trains, and what is said of it."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from contrastive_jax import config as config_lib
from contrastive_jax import from_arrays, train
from contrastive_jax.data import sources
from contrastive_jax.evaluation import during
from contrastive_jax.reporting import curves, folder
from contrastive_jax.training import best, build
from tests import tiny
from tests.evaluation import run_helpers


def config_of(**fields):
  config = tiny.config()
  config.update_from_flattened_dict(
    {
      'steps': 44,
      'log.every_steps': 11,
      'checkpoint.every_steps': 11,
      'evaluation.every_epochs': 1.0,
      'evaluation.baselines': False,
    }
    | fields
  )
  return config


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
  """Two epochs of 22 steps, a report every half, measured every one."""
  workdir = tmp_path_factory.mktemp('during') / 'run'
  summary = train.pretrain(config_of(), workdir)
  return workdir, summary


def lines(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_it_begins_at_step_0_and_comes_every_epoch(watched):
  workdir, summary = watched
  reports = lines(workdir)
  measured = [r['step'] for r in reports if 'online_knn' in r]
  assert measured == [0, 22, 44]
  assert [r['step'] for r in reports] == [0, 11, 22, 33, 44]
  assert 'loss' not in reports[0] and 'since_start' not in reports[0]
  # All of digits is less than the bank and the queries: it is the same kNN.
  assert summary['online_knn'] == pytest.approx(summary['knn_accuracy'])
  assert {key for key, _ in best.MEASURES.values()} <= summary.keys()
  gain, low, high = summary['since_start']['knn']
  assert gain == pytest.approx(
    summary['online_knn'] - reports[0]['online_knn'], abs=1e-6
  )
  assert low < gain < high
  word, sentence = during.verdict(summary['since_start'])
  assert word == summary['since_start_verdict']
  assert f'{100 * gain:+.1f} points' in sentence


def test_training_is_the_same_without_it(watched, tmp_path):
  """To the bit: nothing of what is measured reaches the encoder."""
  workdir, _ = watched
  train.pretrain(config_of(**{'evaluation.every_epochs': 0.0}), tmp_path)
  with_it, without = (run_helpers.arrays_of(w) for w in (workdir, tmp_path))
  for name, array in with_it.items():
    np.testing.assert_array_equal(array, without[name])
  assert not (tmp_path / 'start.json').exists()


def test_a_continued_run_knows_what_was_before_it(watched, tmp_path):
  workdir, summary = watched

  def stop(report):
    if report['step'] == 33:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train.pretrain(config_of(), tmp_path / 'run', on_report=stop)
  after = train.pretrain(config_of(), tmp_path / 'run')
  timed = ('images_per_second', 'data_wait', 'seconds_left')

  def untimed(reports):
    return [{k: v for k, v in r.items() if k not in timed} for r in reports]

  assert untimed(lines(tmp_path / 'run')) == untimed(lines(workdir))
  assert after['since_start'] == summary['since_start']


def test_a_run_that_makes_features_worse_is_told(
  watched, tmp_path, capsys, monkeypatch
):
  workdir, _ = watched
  harm = {'encoder.init': f'run:{workdir}', 'evaluation.every_epochs': 0.0}
  make_step = build.train_step

  def harmful(job):
    """Takes all weights away; a rate that is too high harms, but not surely."""
    train_step = make_step(job)

    def step(state, batch):
      (state, metrics), embeddings = train_step(state, batch)
      params = jax.tree.map(lambda x: 0 * x, state.params)
      return (state.replace(params=params), metrics), embeddings

    return step

  monkeypatch.setattr(build, 'train_step', harmful)
  summary = train.pretrain(config_of(**harm), tmp_path / 'warned')
  assert summary['since_start_verdict'] == 'worse'
  assert 'have become WORSE than they were' in capsys.readouterr().out
  assert min(high for _, _, high in summary['since_start'].values()) < 0
  # Step 0 is what the other run ended with.
  first, other = lines(tmp_path / 'warned')[0], lines(workdir)[-1]
  for key in ('online_knn', 'online_probe'):
    assert first[key] == pytest.approx(other[key])
  harm |= {'on_worse': 'stop', 'evaluation.every_epochs': 0.5}
  with pytest.raises(during.Worse, match='at step 11 the features'):
    train.pretrain(config_of(**harm), tmp_path / 'stopped')
  stored = json.loads((tmp_path / 'stopped/summary.json').read_text())
  assert stored['step'] == 11 and stored['linear_accuracy'] is None


def test_the_bank_is_of_what_has_labels():
  digits = sources.load('digits').train
  given = np.full(digits.size, -1, np.int32)
  given[::100] = digits.labels[::100]
  few = dataclasses.replace(digits, labels=given)
  some = during._some(few, 10, seed=3)
  assert some.size == 10 and (some.labels >= 0).all()
  assert during._some(few, 40, seed=3).size == 15  # that have one
  # All have one: the draw is what it was.
  ids = np.sort(np.random.default_rng(3).choice(digits.size, 10, replace=False))
  np.testing.assert_array_equal(
    during._some(digits, 10, seed=3).labels, digits.labels[ids]
  )


@pytest.mark.parametrize(
  ('fields', 'sentence'),
  [
    ({'checkpoint.best_by': 'knn'}, 'checkpoint.best_by=knn goes by accur'),
    ({'on_worse': 'stop'}, 'on_worse=stop goes by accuracies, and arrays has'),
  ],
)
def test_what_would_never_happen_is_refused(fields, sentence, tmp_path):
  source = from_arrays(np.zeros((70, 8, 8, 1), np.uint8))
  job = build.build(config_of(**fields), source=source)
  with pytest.raises(config_lib.Error, match=sentence):
    during.watch(job, tmp_path)
  with pytest.raises(config_lib.Error, match='evaluation.every_epochs'):
    build.build(config_of(**fields, **{'evaluation.every_epochs': 0.0}))


def test_a_damaged_start_is_said(watched, tmp_path):
  (tmp_path / 'start.json').write_text('[')
  job = build.build(config_of())
  with pytest.raises(config_lib.Error, match='start.json is damaged'):
    during.watch(job, tmp_path)


@pytest.mark.parametrize(
  ('knn', 'probe', 'word'),
  [
    ((0.1, 0.05, 0.15), (0.1, 0.05, 0.15), 'better'),
    ((0.1, 0.05, 0.15), (0.0, -0.05, 0.05), 'better'),
    ((0.0, -0.05, 0.05), (0.0, -0.05, 0.05), 'no difference'),
    ((-0.1, -0.2, -0.05), (0.0, -0.05, 0.05), 'worse'),
    ((-0.1, -0.2, -0.05), (0.1, 0.05, 0.15), 'mixed'),
  ],
)
def test_the_word_agrees_with_the_intervals(knn, probe, word):
  assert during.verdict({'knn': knn, 'probe': probe})[0] == word


def test_of_nothing_nothing_is_said():
  assert during.verdict({}) == ('', '')


def test_the_report_shows_it(watched, tmp_path):
  workdir, summary = watched
  run = folder.read(workdir)
  page = ''.join(curves._online([run]))
  assert during.verdict(summary['since_start'])[1] in page
  assert '<img' in page or '<svg' in page
  # Without labels there are ranks.
  reports = [{'step': s, 'online_rankme': 3.0 + s} for s in (0, 5)]
  page = ''.join(curves._online([run._replace(reports=reports)]))
  assert 'RankMe of the features: ' in page
  assert 'at step 0, 8 at step 5' in page
  assert 'kNN, share' not in page
  without = run._replace(reports=[{'step': 1, 'loss': 2.0}])
  assert curves._online([without]) == []
