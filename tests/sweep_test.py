"""Sweeps: what is run and what is not, the table, the pictures."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from contrastive_jax import sweep
from contrastive_jax.evaluation import correctness, intervals
from contrastive_jax.sweeping import (
  axis,
  plots,
  product,
  progress,
  results,
)
from tests import tiny, train_test
from tests.sweeping.plan_test import GRID, LABELED, TEMPERATURES, make_plan

PLOT = plots.plot


class Runner:
  """Stands for the main job: notes what it is asked to run."""

  def __init__(self, monkeypatch):
    self.ran = []
    self.fails = self.stops = None
    self.held_out = 0.1
    self.labels = True
    monkeypatch.setattr(sweep, 'run_process', self)
    # The pictures have a test of their own, and take half a second.
    monkeypatch.setattr(plots, 'plot', lambda *_: Figure())

  def __call__(self, command, log_path, lock):
    del lock
    folder = log_path.parent
    told = dict(x.split('=', 1) for x in command if x.startswith('--'))
    assert told['--workdir'] == str(folder)
    assert told['--config.data.held_out'] == '0.1'
    assert told['--config.evaluation.baselines'] == 'False'
    if folder.name == self.stops:
      raise KeyboardInterrupt
    self.ran.append(folder.name)
    config = {'data': {'held_out': self.held_out}, 'run': {'num_examples': 130}}
    (folder / 'config.json').write_text(json.dumps(config))
    if folder.name == self.fails:
      log_path.write_text('working\nerror: no such thing\n\n')
      return 3
    (folder / 'summary.json').write_text(json.dumps(self.summary(folder.name)))
    return 0

  def summary(self, name):
    score = np.random.default_rng(list(name.encode())).uniform(0.5, 1)
    return {
      'linear_accuracy': score if self.labels else None,
      'knn_accuracy': score - 0.1 if self.labels else None,
      'few_label_accuracy': None,
      'feature_rank': 10 * score,
      'loss': 3.0,
      'chance_loss': 4.0,
      'verdict': 'ok',
      'images_per_second': 100.0,
      'test_images': 143,
    }

  def run(self, points, workdir, chosen=None):
    return sweep.run_points(points, chosen or points, workdir, ['main'])


@pytest.fixture
def runner(monkeypatch):
  return Runner(monkeypatch)


def table(workdir):
  return list(csv.DictReader((workdir / 'results.csv').read_text().split('\n')))


def test_killed_and_resumed_runs_each_point_once(runner, tmp_path):
  points = make_plan(GRID, tmp_path, seeds=2)
  names = [p.folder.name for p in points]
  runner.stops = names[4]
  with pytest.raises(KeyboardInterrupt):
    runner.run(points, tmp_path)
  assert runner.ran == names[:4]
  assert len(table(tmp_path)) == 4
  runner.stops = None
  assert runner.run(points, tmp_path) == 0
  assert runner.run(points, tmp_path) == 0
  assert runner.ran == names
  assert [row['folder'] for row in table(tmp_path)] == [
    f'points/{name}' for name in names
  ]


def test_a_failure_leaves_the_others_and_is_tried_again(
  runner, tmp_path, capsys
):
  points = make_plan(TEMPERATURES, tmp_path)
  names = [p.folder.name for p in points]
  runner.fails = names[1]
  assert runner.run(points, tmp_path) == 1
  assert runner.ran == names
  failure = 'exit code 3: error: no such thing'
  assert [row['failure'] for row in table(tmp_path)] == ['', failure, '']
  assert (
    f'point 1 of 3: objective.temperature=0.2, seed 0: failed, {failure}'
    in (capsys.readouterr().out)
  )
  assert '2 of 3 runs done, 1 failed' in (tmp_path / 'results.md').read_text()
  runner.fails = None
  assert runner.run(points, tmp_path) == 0
  assert runner.ran == [*names, names[1]]
  assert [row['failure'] for row in table(tmp_path)] == ['', '', '']


@pytest.mark.parametrize('end', ['done', 'failed', 'killed'])
def test_a_point_that_another_process_runs_is_waited_for(
  runner, tmp_path, capsys, end
):
  """As one does that outlives a sweep killed by SIGKILL."""
  points = make_plan(TEMPERATURES, tmp_path)
  first = points[0].folder
  first.mkdir(parents=True)
  names = [point.folder.name for point in points]
  # What the other process writes before it lets go.
  config = {'data': {'held_out': 0.1}, 'run': {'num_examples': 130}}
  (first / 'config.json').write_text(json.dumps(config))
  lock = (first / 'lock').open('w')
  fcntl.flock(lock, fcntl.LOCK_EX)

  def other():
    while runner.ran != names[1:]:
      time.sleep(0.01)
    if end == 'done':
      summary = json.dumps(runner.summary(names[0]))
      (first / 'summary.json').write_text(summary)
    elif end == 'failed':
      failure = {'exit_code': 3, 'last_line': 'no luck'}
      (first / 'failed.json').write_text(json.dumps(failure))
    lock.close()

  thread = threading.Thread(target=other)
  thread.start()
  assert runner.run(points, tmp_path) == (end == 'failed')
  thread.join()
  assert runner.ran == names[1:] + (names[:1] if end == 'killed' else [])
  assert 'another process runs it' in capsys.readouterr().out
  rows = table(tmp_path)
  assert [row['folder'] for row in rows] == [f'points/{name}' for name in names]
  assert [row['failure'] != '' for row in rows] == [end == 'failed', 0, 0]


def test_a_stopped_sweep_ends_its_run_by_sigterm(tmp_path):
  script = (
    'trap "echo checkpoint; exit" TERM; echo up; while :; do sleep .1; done'
  )
  log = tmp_path / 'log'

  def stop():
    while not (log.exists() and 'up\n' in log.read_text()):
      time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)

  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    with (tmp_path / 'lock').open('w') as lock:
      threading.Thread(target=stop).start()
      with pytest.raises(KeyboardInterrupt):
        sweep.run_process(['bash', '-c', script], log, lock)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert log.read_text().endswith('checkpoint\n')


def test_a_score_on_test_is_not_taken(runner, tmp_path):
  points = make_plan(TEMPERATURES, tmp_path)
  runner.held_out = 0.0
  with pytest.raises(ValueError, match='scored on the test split'):
    runner.run(points, tmp_path)
  assert table(tmp_path) == []


def test_another_sweep_or_config_is_refused(tmp_path):
  base = tiny.get_config()
  progress.pin(tmp_path, GRID, base, write=True)
  base.log.every_steps = 7
  progress.pin(tmp_path, GRID, base, write=True)
  with pytest.raises(ValueError, match='6 settings where this one has 3'):
    progress.pin(tmp_path, TEMPERATURES, base, write=True)
  base.encoder.width = 16
  with pytest.raises(ValueError, match='encoder.width=8, this one has encoder'):
    progress.pin(tmp_path, GRID, base, write=True)


def test_table_has_mean_and_deviation_over_seeds(runner, tmp_path):
  points = make_plan(TEMPERATURES, tmp_path, seeds=3)
  runner.run(points, tmp_path)
  scores = np.array([float(r['linear_accuracy']) for r in table(tmp_path)])
  scores = 100 * scores.reshape(3, 3)  # seed, temperature
  lines = (tmp_path / 'results.md').read_text().splitlines()
  # Wilson's, the widest: of kNN, which is 10 points below the linear probe.
  everything = np.concatenate([scores, scores - 10])
  share, z, n = np.round(everything * 1.43) / 143, 1.959964, 143
  spread = np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
  half = 100 * np.max(z * spread / (1 + z**2 / n))
  assert 'Each accuracy is of 143 images' in lines[2]
  assert f'up to ± {half:.1f} points (95 %)' in lines[2]
  rows = [line.split(' | ') for line in lines if line.startswith('| 0')]
  assert [row[0] for row in rows] == ['| 0.1', '| 0.2', '| 0.4']
  assert [row[1] for row in rows] == [
    f'{mean:.1f} ± {deviation:.1f}'
    for mean, deviation in zip(
      scores.mean(0), scores.std(0, ddof=1), strict=True
    )
  ]


def test_a_mean_without_the_collapsed_says_so(runner, tmp_path):
  points = make_plan(TEMPERATURES[:1], tmp_path, seeds=3)
  runner.run(points, tmp_path)
  for point in points[:2]:
    path = point.folder / 'summary.json'
    summary = json.loads(path.read_text())
    summary |= {'linear_accuracy': None, 'verdict': 'collapsed'}
    path.write_text(json.dumps(summary))
  results.write(points, tmp_path)
  text = (tmp_path / 'results.md').read_text()
  assert '(1 of 3 runs)' in text and 'collapsed, ok' in text


def _with_answers(point, shares, images='a'):
  """Puts answers to 143 images into a summary; returns them."""
  path = point.folder / 'summary.json'
  rng = np.random.default_rng(point.number)
  right = rng.random(143) < shares[point.number % len(shares)]
  summary = json.loads(path.read_text()) | {
    'linear_accuracy': float(np.mean(right)),
    'test_sha256': images,
    'right': {'trained encoder': {'linear': correctness.pack(right)}},
  }
  path.write_text(json.dumps(summary))
  return right


def test_each_setting_less_the_best(runner, tmp_path):
  points = make_plan(TEMPERATURES, tmp_path, seeds=3)
  runner.run(points, tmp_path)
  assert 'Differences' not in (tmp_path / 'results.md').read_text()
  right = [_with_answers(point, (0.5, 0.9, 0.8)) for point in points]
  right = np.reshape(right, (3, 3, 143)).swapaxes(0, 1)  # setting, seed
  results.write(points, tmp_path)
  text = (tmp_path / 'results.md').read_text()
  assert 'How sure a difference is stands below' in text
  _, _, differences = text.partition('## Differences')
  lines = [x for x in differences.splitlines() if x.startswith('| ')]
  assert lines[0] == '| objective.temperature | linear, points | 95 % | seeds |'
  for line, name, mine in zip(lines[1:], (0.1, 0.2, 0.4), right, strict=True):
    value, low, high = intervals.between(mine, right[1], same_seeds=True)
    cells = f'{100 * value:+.2f} | {100 * low:+.2f} to {100 * high:+.2f}'
    if name == 0.2:
      cells = 'best | '
    assert line == f'| {name} | {cells} | 3 |'
  assert 'right' not in (tmp_path / 'results.csv').read_text().split('\n')[0]


def test_settings_on_other_images_are_not_compared(runner, tmp_path):
  points = make_plan(TEMPERATURES, tmp_path)
  runner.run(points, tmp_path)
  for point, images in zip(points, 'aab', strict=True):
    _with_answers(point, (0.5, 0.9, 0.8), images)
  results.write(points, tmp_path)
  _, _, differences = (
    (tmp_path / 'results.md').read_text().partition('## Differences')
  )
  assert '| 0.1 |' in differences and '| 0.4 |' not in differences
  assert 'Without objective.temperature=0.4: measured on' in differences


@pytest.mark.parametrize(
  'overrides',
  [
    GRID,
    axis('objective.temperature', (0.05, 0.1, 0.2, 1.0)),
    LABELED,
    product(GRID, axis('augment.flip', (0.0, 0.5))),
  ],
  ids=['heat_map', 'line', 'labels', 'three_fields'],
)
def test_plots_are_pictures(runner, tmp_path, overrides, monkeypatch):
  points = make_plan(overrides, tmp_path, seeds=2)
  runner.fails = points[1].folder.name
  runner.run(points, tmp_path)
  monkeypatch.setattr(plots, 'plot', PLOT)
  results.write(points, tmp_path)
  for name in ('linear_accuracy', 'knn_accuracy', 'feature_rank'):
    with Image.open(tmp_path / f'{name}.png') as picture:
      assert picture.format == 'PNG'
      assert np.asarray(picture.convert('L')).std() > 10


def test_without_labels_the_label_free_scores_remain(runner, tmp_path, capsys):
  runner.labels = False
  runner.run(make_plan(TEMPERATURES, tmp_path), tmp_path)
  assert 'effective rank' in capsys.readouterr().out
  assert not (tmp_path / 'linear_accuracy.png').exists()
  assert (tmp_path / 'feature_rank.png').exists()


def test_the_plan_says_what_is_left(runner, tmp_path):
  points = make_plan(GRID, tmp_path)
  for point in points:
    point.config.data.source = 'folder:/large'
  assert '100 epochs' in progress.list_plan(points)
  assert 'known once the first' in progress.list_plan(points)
  runner.fails = points[1].folder.name
  runner.run(points, tmp_path, points[:2])
  lines = progress.list_plan(points).splitlines()
  # Of 130 images: 4 batches of 32, or 2 of 64, in each of 100 epochs.
  assert (
    lines[0].split()
    == (
      '0 done objective.temperature=0.1, batch_size=32, seed 0: '
      '400 steps, 12,800 images'
    ).split()
  )
  assert lines[1].split()[1] == 'failed'
  assert lines[-3:] == [
    '6 points, 1 of them done',
    '76,800 images, 64,000 of them left',
    'about 0:10:40 at 100 images/s, the median of the points done; compiling '
    'and evaluation come on top',
  ]


def test_the_cost_in_epochs_is_known_before_the_first_run(tmp_path):
  points = make_plan(TEMPERATURES, tmp_path)
  # Of 1,438 digits to train on, a tenth held out: 1,295.
  batch = points[0].config.batch_size
  images = 100 * (1295 // batch) * batch
  assert f'{3 * images:,} images' in progress.list_plan(points)
  points[0].config.data.source = points[1].config.data.source = 'idx:/nowhere'
  assert 'known once the first' in progress.list_plan(points)


def command(*arguments, **environment):
  return subprocess.run(
    [sys.executable, '-m', 'contrastive_jax.sweep', *arguments],
    cwd=train_test.ROOT,
    env=train_test.ENVIRONMENT | environment,
    capture_output=True,
    text=True,
  )


def test_list_costs_nothing(tmp_path):
  found = command(
    '--list',
    '--config=configs/simclr_small.py:idx:/nowhere',  # no data is read
    '--sweep=experiments/sweeps/epochs.py',
    '--config.steps=80',
    '--config.objective.temperature=0.3',
    f'--workdir={tmp_path}/w',
    JAX_PLATFORMS='none',  # no device is touched
  )
  assert found.returncode == 0, found.stderr
  lines = found.stdout.splitlines()
  assert len(lines) == 12 + 3
  assert 'steps=10, seed 0: 10 steps, 5,120 images' in lines[0]
  assert lines[-1] == 'the time is known after the first point'
  assert not (tmp_path / 'w').exists()


def test_a_task_of_the_job_array_runs_its_point(tmp_path):
  """The real thing: two flags, a script, one point of two, the main job."""
  path = tmp_path / 'sweep.py'
  path.write_text(
    'from contrastive_jax.sweeping import axis\n'
    'def get_sweep(config):\n'
    "  return axis('objective.temperature', (0.1, 0.3))\n"
  )
  workdir = tmp_path / 'w'
  found = command(
    '--config=tests/tiny.py',
    f'--sweep={path}',
    f'--workdir={workdir}',
    '--cpu_devices=1',
    '--config.steps=2',
    '--config.augment.jitter=0',  # compiles fast
    '--config.augment.crop_scale=(0.6, 1.0)',
    '--submit=slurm',
    '--dry_run',
  )
  assert found.returncode == 0, found.stderr
  script = workdir / 'submit.sh'
  assert '#SBATCH --array=0-1\n' in script.read_text()
  output = subprocess.run(
    ['bash', script],
    env=train_test.ENVIRONMENT | {'SLURM_ARRAY_TASK_ID': '1'},
    capture_output=True,
    text=True,
  )
  log = next(workdir.glob('points/*/log'), None)
  assert output.returncode == 0, output.stderr + (log and log.read_text())
  (folder,) = (workdir / 'points').iterdir()
  assert folder.name == 'objective.temperature=0.3,seed=0'
  config = json.loads((folder / 'config.json').read_text())
  assert config['objective']['temperature'] == 0.3
  assert config['augment']['crop_scale'] == [0.6, 1.0]
  assert config['data']['held_out'] == 0.1
  assert config['run']['num_examples'] == 1295
  summary = json.loads((folder / 'summary.json').read_text())
  assert list(summary['rows']) == ['trained encoder']
  (row,) = table(workdir)
  assert float(row['linear_accuracy']) == summary['linear_accuracy']
  assert output.stdout.startswith(
    'point 1 of 2: objective.temperature=0.3, seed 0: linear '
  )


@pytest.mark.parametrize(
  ('run', 'sign', 'code', 'requeued'),
  [
    ('sys.exit(75)', None, 75, True),  # of the watchdog
    ('sys.exit(1)', None, 1, False),
    ('time.sleep(60)', signal.SIGUSR1, 3, True),  # the time limit is near
    ('time.sleep(1)', signal.SIGTERM, -15, False),  # as scancel to the script
  ],
)
def test_a_task_of_the_job_array_is_requeued(
  run, sign, code, requeued, tmp_path
):
  fake = tmp_path / 'scontrol'
  fake.write_text('#!/bin/sh\necho "$@"\n')
  fake.chmod(0o755)
  begin = (
    'import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); '
    "print('runs', flush=True); "
  )
  points = make_plan(TEMPERATURES, tmp_path)[1:2]
  command = [sys.executable, '-c', begin + run]
  script = tmp_path / 'submit.sh'
  script.write_text(sweep.job_array(points, tmp_path, command))
  task = {'SLURM_ARRAY_JOB_ID': '8', 'SLURM_ARRAY_TASK_ID': '1'}
  process = subprocess.Popen(
    ['bash', script],
    env=os.environ | task | {'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout is not None
  assert process.stdout.readline() == 'runs\n'
  if sign is not None:
    process.send_signal(sign)
  output, _ = process.communicate(timeout=50)
  assert process.returncode == code
  assert output == ('requeue 8_1\n' if requeued else '')


def test_what_the_watchdogs_end_is_to_be_tried_again(tmp_path):
  """By the sweep's exit code, which is that of its points."""
  config, points = tmp_path / 'hung.py', tmp_path / 'sweep.py'
  config.write_text(
    'import os, sys\n'
    'from tests.tiny import get_config\n'
    "if sys.orig_argv[2] == 'contrastive_jax.main':\n"
    '  os._exit(75)\n'
  )
  points.write_text(
    'from contrastive_jax.sweeping import axis\n'
    'def get_sweep(config):\n'
    "  return axis('objective.temperature', (0.1, 0.3))\n"
  )
  found = command(
    f'--config={config}', f'--sweep={points}', f'--workdir={tmp_path}/w'
  )
  assert found.returncode == 75, found.stderr
  assert 'error: 2 of 2 points failed' in found.stderr
