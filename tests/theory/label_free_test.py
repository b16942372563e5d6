"""Rank correlation of label-free scores with accuracy, over made-up runs."""

import json
import math

import numpy as np
import pytest

from experiments.theory import label_free

X = np.array([1.0, 2, 3, 4, 5, 7])
NAMES = [str(x) for x in X]


def write_run(path, accuracy=0.9, temperature=0.1, seed=0, **scores):
  path.mkdir(parents=True)
  config = {
    'seed': seed,
    'objective': {'temperature': temperature},
    'data': {'held_out': 0.1},
  }
  (path / 'config.json').write_text(json.dumps(config))
  report = {'step': 3, 'alignment': 0.5, **scores}
  (path / 'metrics.jsonl').write_text(json.dumps(report) + '\n')
  (path / 'summary.json').write_text(
    json.dumps({**report, 'linear_accuracy': accuracy})
  )


def test_a_monotone_relation():
  assert label_free.spearman(X, X**3) == pytest.approx(1)
  assert label_free.spearman(X, -X) == pytest.approx(-1)
  assert math.isnan(label_free.spearman(X, 0 * X))
  found = label_free.correlation('loss', -X, X**3, NAMES)
  assert found[1:] == pytest.approx((6, -1, -1, -1))


def test_seeds_of_a_setting_go_together(monkeypatch):
  monkeypatch.setattr(label_free, 'RESAMPLES', 300)
  y = np.array([1.0, 3, 2, 4, 6, 5])
  once = label_free.correlation('loss', X, y, NAMES)
  twice = label_free.correlation(
    'loss', np.repeat(X, 2), np.repeat(y, 2), np.repeat(NAMES, 2).tolist()
  )
  assert twice[2:] == pytest.approx(once[2:])
  assert once.low < once.value < once.high
  alone = label_free.correlation(
    'loss', np.repeat(X, 2), np.repeat(y, 2), [str(i) for i in range(12)]
  )
  assert alone.high - alone.low < once.high - once.low


def test_a_sweep(tmp_path):
  for number in range(6):
    write_run(
      tmp_path / 'points' / f'p{number}',
      accuracy=0.8 + 0.01 * number,
      temperature=0.1 * 2 ** (number // 2),
      seed=number % 2,
      uniformity=-1.0 - number,
      loss=2.0,
    )
  running = tmp_path / 'points' / 'running'
  running.mkdir()
  (running / 'config.json').write_text('{}')
  runs = label_free.read_all([], tmp_path)
  text = label_free.study(runs, tmp_path / 'out')
  assert '6 runs of 3 settings' in text and '80.0 to 85.0 %' in text
  assert '| uniformity (-4: even) | -1.00 | -1.00 to -1.00 | 6 |' in text
  assert '| loss | undefined |  | 6 |' in text
  assert 'RankMe' not in text  # no run has it
  assert (tmp_path / 'out' / 'label_free.png').exists()


def test_what_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='no points'):
    label_free.read_all([], tmp_path)
  folders = [tmp_path / str(i) for i in range(5)]
  for folder in folders[:4]:
    write_run(folder)
  with pytest.raises(ValueError, match='4 runs .* at least 5'):
    label_free.read_all(folders[:4], None)
  write_run(folders[4], accuracy=None)
  with pytest.raises(ValueError, match='no labels'):
    label_free.read_all(folders, None)
  (folders[4] / 'summary.json').unlink()
  with pytest.raises(FileNotFoundError, match='no summary.json'):
    label_free.read_all(folders, None)
