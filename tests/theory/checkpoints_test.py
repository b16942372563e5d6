"""Checkpoints of a run, and the probe against a hand-picked one."""

import csv

import jax
import numpy as np
import pytest

from contrastive_jax.diagnostics import embedding
from contrastive_jax.evaluation import encoder
from contrastive_jax.training import build, workfolder
from contrastive_jax.training.checkpoint import Checkpoints
from experiments import probe_choice
from experiments.theory import checkpoints, represent
from tests import tiny


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Of a run with three checkpoints, one of an encoder that knows nothing."""
  path = tmp_path_factory.mktemp('run')
  config = tiny.config()
  job = build.build(config, encoder.fitting_mesh(config))
  workfolder.write_config(job, path)
  state = build.init_state(job)
  with Checkpoints(path / 'checkpoints', every_steps=1, keep=9) as kept:
    for step, factor in ((1, 1.0), (2, 0.0), (3, 2.0)):
      params = jax.tree.map(lambda p, f=factor: f * p, state.params)
      kept.save(step, state.replace(params=params, step=state.step + step))
  return path


def test_each_checkpoint_is_its_own(folder, tmp_path):
  text = checkpoints.study([folder], tmp_path)
  with (tmp_path / 'checkpoints.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['step'] for row in rows] == ['1', '2', '3']
  accuracy = [float(row['accuracy']) for row in rows]
  # Parameters of zero make all images alike.
  assert accuracy[1] < 0.2 < 0.5 < accuracy[0]
  assert float(rows[1]['alignment']) == 0 < float(rows[0]['alignment'])
  _, zero = encoder.load(folder, 2)
  assert int(zero.step) == 2
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(zero.params))
  job, state = encoder.load(folder)
  ((first, second),) = represent.embeddings(job, [state], job.source.test, 256)
  expected = embedding.statistics([first, second])
  for name in checkpoints.SCORES:
    assert float(rows[2][name]) == pytest.approx(expected[name], rel=1e-4)
  assert f'| 3 | {100 * accuracy[0]:.1f} to {100 * accuracy[2]:.1f} |' in text
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {'checkpoints.csv', 'checkpoints.md', 'checkpoints.png'}


def test_too_few_checkpoints(folder, monkeypatch):
  monkeypatch.setattr(checkpoints, 'LEAST', 4)
  with pytest.raises(ValueError, match='kept 3 checkpoints, .* takes 4'):
    checkpoints.measure(folder)


def test_the_choice_beside_the_best_on_test(folder, monkeypatch):
  monkeypatch.setattr(probe_choice, 'DECAYS', (1e6, 0.0))
  found = probe_choice.compare(str(folder))
  assert found.worst < found.best and 0.5 < found.chosen <= found.best + 0.05
  assert found.best_lbfgs > 0.5
