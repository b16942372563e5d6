"""The best checkpoint of a run: which one it is, and that it can be used."""

import json

import pytest

from contrastive_jax import config as config_lib
from contrastive_jax import train
from contrastive_jax.evaluation import encoder
from contrastive_jax.training import best, build
from tests.evaluation import during_test


def lines(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_the_best_report_is_kept(tmp_path, monkeypatch):
  """By the loss, whose course is known only afterwards."""
  config = during_test.config_of(
    **{'checkpoint.best_by': 'loss', 'evaluation.every_epochs': 0.0}
  )
  train.pretrain(config, tmp_path / 'run')
  reports = lines(tmp_path / 'run')
  least = min(reports, key=lambda report: report['loss'])
  found = json.loads((tmp_path / 'run/best/best.json').read_text())
  assert found == {'by': 'loss', 'value': least['loss'], 'step': least['step']}
  job, state = encoder.load(tmp_path / 'run/best')
  assert int(state.step) == least['step']
  # A run that is continued knows what was the best before.
  opened = best.Best('loss', tmp_path / 'run', lambda: {})
  assert not opened._is_better(least['loss'])
  assert opened._is_better(least['loss'] - 1)
  opened.close()
  opened = best.Best('rankme', tmp_path / 'run', lambda: {})
  assert opened._is_better(-1.0)  # of another measure nothing is known
  opened.close()
  (tmp_path / 'run/best/best.json').write_text('{}')
  with pytest.raises(config_lib.Error, match='best.json is damaged'):
    best.Best('loss', tmp_path / 'run', lambda: {})


def test_what_is_never_measured_cannot_be_best():
  config = during_test.config_of(
    **{'checkpoint.best_by': 'knn', 'evaluation.every_epochs': 0.0}
  )
  with pytest.raises(config_lib.Error, match='evaluation.every_epochs'):
    build.build(config)
