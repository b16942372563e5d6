"""Objectives that must collapse are called so within 200 steps of a run."""

import json

import pytest

from contrastive_jax import build, train
from contrastive_jax.checkpoint import Checkpoints
from contrastive_jax.diagnostics import health
from tests import tiny

COLLAPSE = {'partial collapse', 'collapsed'}
BROKEN = {
  'byol_small': {'objective.stop_gradient': False},
  # The published optimizer: Adam's steps do not let a norm's input fade.
  'simsiam_small': {
    'objective.stop_gradient': False,
    'optimizer.name': 'sgd',
    'optimizer.base_learning_rate': 0.4,
    'optimizer.weight_decay': 5e-4,
  },
  'vicreg_small': {'objective.variance_weight': 0.0},
  'swav_small': {'objective.sinkhorn_iterations': 0},
  'dino_small': {'objective.centre_momentum': 1.0},  # it stays at 0
}


class After:
  """Stops a run at a step, as SIGTERM would."""

  def __init__(self, step):
    self._step = step

  def requested(self, step):
    return step >= self._step


def verdicts(config, workdir):
  """The verdict of each report of the first 200 steps of a longer run."""
  config.steps = 2000
  config.log.every_steps = 20
  config.checkpoint.every_steps = 1000
  config.optimizer.warmup_epochs = 0.0
  config.optimizer.base_learning_rate *= 2
  job = build.build(config)
  with Checkpoints(
    workdir / 'checkpoints', every_steps=1000, keep=1, log=print
  ) as checkpoints:
    train.train(job, build.init_state(job), 0, workdir, checkpoints, After(200))
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['verdict'] for line in lines]


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_objective_is_noticed(name, tmp_path, capsys):
  config = tiny.config_of(name)
  config.update_from_flattened_dict(BROKEN[name])
  assert set(verdicts(config, tmp_path)) & COLLAPSE
  assert 'Likely causes: ' in capsys.readouterr().out


def test_a_healthy_one_is_not(tmp_path):
  assert set(verdicts(tiny.config_of('byol_small'), tmp_path)) == {'ok'}


def test_stopped_on_request(tmp_path):
  config = tiny.config_of('swav_small')
  config.update_from_flattened_dict(BROKEN['swav_small'])
  config.steps = 200
  config.log.every_steps = 20
  config.checkpoint.every_steps = 1000
  config.on_collapse = 'stop'
  with pytest.raises(health.Collapsed, match='Likely causes: '):
    train.pretrain(config, tmp_path)
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert summary['verdict'] == 'collapsed'
