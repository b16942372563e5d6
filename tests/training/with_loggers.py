"""Reports to Weights & Biases and MLflow, offline.

  python -m pytest tests/training/with_loggers.py

Needs the extras wandb and mlflow. Not among the tests that are collected: who
has not installed them has not skipped these.
"""

import json

import pytest

from contrastive_jax import train
from tests import tiny

# Theirs, not ours.
pytestmark = pytest.mark.filterwarnings('ignore')


def config_of(to):
  config = tiny.config()
  config.update_from_flattened_dict(
    {
      'steps': 8,
      'log.every_steps': 2,
      'log.to': to,
      'checkpoint.every_steps': 4,
      'evaluation.baselines': False,
    }
  )
  return config


def killed_and_continued(to, workdir):
  """A run that is stopped at its third report, and goes on from step 4."""

  def stop(report):
    if report['step'] == 6:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train.pretrain(config_of(to), workdir, on_report=stop)
  train.pretrain(config_of(to), workdir)
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_mlflow(tmp_path, monkeypatch):
  monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
  monkeypatch.setenv('MLFLOW_TRACKING_URI', (tmp_path / 'ml').as_uri())
  reports = killed_and_continued('mlflow', tmp_path / 'run')
  import mlflow

  client = mlflow.MlflowClient()
  number = json.loads((tmp_path / 'run/tracking.json').read_text())['mlflow']
  history = client.get_metric_history(number, 'loss')
  # Step 6 was seen twice: before the end, and again from the checkpoint.
  found = {metric.step: metric.value for metric in history}
  expected = {report['step']: report['loss'] for report in reports}
  assert found == pytest.approx(expected)
  run = client.get_run(number)
  assert run.data.params['objective.name'] == 'simclr'
  assert run.info.status == 'FINISHED'


def test_wandb(tmp_path, monkeypatch):
  monkeypatch.setenv('WANDB_MODE', 'offline')
  monkeypatch.setenv('WANDB_SILENT', 'true')
  killed_and_continued('wandb', tmp_path / 'run')
  number = json.loads((tmp_path / 'run/tracking.json').read_text())['wandb']
  runs = list((tmp_path / 'run/wandb').glob(f'offline-run-*-{number}'))
  assert len(runs) == 2  # one number, before and after
  data = b''.join(file.read_bytes() for r in runs for file in r.glob('*.wandb'))
  assert b'uniformity' in data
