"""Objectives that must collapse are called so within 200 steps of a run.

One with a teacher and one with a regularizer stand for all;
with_every_objective.py, run by hand, takes the others.
"""

import json

import pytest

from contrastive_jax import train
from contrastive_jax.diagnostics import health
from experiments import alarms
from tests import tiny

COLLAPSE = {'partial collapse', 'collapsed'}


def check_that_it_is_noticed(name, tmp_path, capsys):
  config = alarms.configure(tiny.config_of(f'{name}_small'), name, broken=True)
  assert set(alarms.verdicts(config, tmp_path).values()) & COLLAPSE
  assert 'Likely causes: ' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['byol', 'lejepa'])
def test_a_broken_objective_is_noticed(name, tmp_path, capsys):
  check_that_it_is_noticed(name, tmp_path, capsys)


def check_that_it_is_healthy(name, tmp_path):
  config = tiny.config_of(f'{name}_small')
  found = alarms.verdicts(
    alarms.configure(config, name, broken=False), tmp_path
  )
  assert set(found.values()) == {'ok'}
  assert alarms.first_alarm(found) == 'none'


def test_a_healthy_one_is_not(tmp_path):
  check_that_it_is_healthy('byol', tmp_path)


def test_the_first_alarm():
  assert alarms.first_alarm({20: 'ok', 40: 'at chance'}) == 'at chance, step 40'


def test_stopped_on_request(tmp_path):
  config = tiny.config_of('swav_small')
  alarms.configure(config, 'swav', broken=True)
  config.steps = 200
  config.log.every_steps = 20
  config.checkpoint.every_steps = 1000
  config.on_collapse = 'stop'
  with pytest.raises(health.Collapsed, match='Likely causes: '):
    train.pretrain(config, tmp_path)
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert summary['verdict'] == 'collapsed'
  # What a reader of any summary may ask for.
  assert summary['knn_accuracy'] is None and summary['rows'] == {}
