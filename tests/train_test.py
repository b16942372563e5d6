"""The main job as a user runs it: killed, stopped, continued, misused."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from contrastive_jax import train
from contrastive_jax.evaluation import correctness
from tests import tiny

ROOT = pathlib.Path(__file__).parents[1]
COMMAND = [sys.executable, '-m', 'contrastive_jax.main']
ENVIRONMENT = dict(
  os.environ,
  JAX_PLATFORMS='cpu',
  JAX_COMPILATION_CACHE_DIR=jax.config.jax_compilation_cache_dir,
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0.1',
)


def start(*arguments, **kwargs) -> subprocess.Popen:
  if not any(a.startswith('--config=') for a in arguments):
    arguments = ('--config=tests/tiny.py', *arguments)
  return subprocess.Popen(
    [*COMMAND, '--cpu_devices=2', *arguments],
    cwd=ROOT,
    env=ENVIRONMENT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    **kwargs,
  )


def hashes(workdir: pathlib.Path, step: int) -> dict[str, str]:
  """The content hash of every array in a checkpoint."""
  return json.loads(
    (workdir / 'checkpoints' / str(step) / 'hashes' / 'metadata').read_text()
  )


def wait_for(process: subprocess.Popen, path: pathlib.Path) -> None:
  deadline = time.monotonic() + 180
  while not path.exists():
    assert process.poll() is None, process.stdout.read()
    assert time.monotonic() < deadline, f'{path} never came'
    time.sleep(0.01)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory) -> pathlib.Path:
  workdir = tmp_path_factory.mktemp('uninterrupted')
  process = start(f'--workdir={workdir}', '--config.steps=12')
  output, _ = process.communicate()
  assert process.returncode == 0, output
  return workdir


def test_what_a_run_prints_and_writes(tmp_path, capsys):
  summary = train.pretrain(tiny.config(), tmp_path)
  printed = capsys.readouterr().out
  assert 'learning rate 1 x 64/256 = 0.25' in printed
  assert '8 cpu devices in 1 processes, mapped by shard_map' in printed
  assert 'cifar stem for 8 pixel images' in printed
  assert 'saturation' in printed  # left out: digits are gray
  assert '(chance 9.6884)' in printed  # 2 ln(127)
  assert 'accuracies are of 359 images: known to ±' in printed
  written = json.loads((tmp_path / 'summary.json').read_text())
  assert written == json.loads(json.dumps(summary))
  assert written['step'] == 4
  assert written['chance_loss'] == pytest.approx(9.68837, abs=1e-4)
  assert list(written)[-2:] == ['test_sha256', 'right']  # not for reading
  rows = written['rows']
  for row, texts in written['right'].items():
    for name, text in texts.items():
      right = correctness.unpack(text, 359)
      assert right is not None and float(np.mean(right)) == rows[row][name]
  assert list(rows) == ['raw pixels', 'untrained encoder', 'trained encoder']
  for row in rows.values():
    assert 1 <= row.pop('effective_rank') <= 64
    assert all(0 <= value <= 1 for value in row.values())
  assert rows['raw pixels']['knn20_cos_t0.07'] > 0.95  # digits are easy
  reports = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in reports] == [2, 4]
  assert list(tmp_path.glob('events.out.tfevents*'))


def test_killed_and_continued_equals_uninterrupted(tmp_path, uninterrupted):
  arguments = (f'--workdir={tmp_path}', '--config.steps=12')
  process = start(*arguments)
  wait_for(process, tmp_path / 'checkpoints' / '4')
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not (tmp_path / 'summary.json').exists()
  process = start(*arguments)
  output, _ = process.communicate()
  assert process.returncode == 0, output
  assert 'continuing from the checkpoint of step' in output
  assert hashes(tmp_path, 12) == hashes(uninterrupted, 12)
  ours, theirs = (
    json.loads((folder / 'summary.json').read_text())
    for folder in (tmp_path, uninterrupted)
  )
  assert ours['rows'] == theirs['rows']
  steps = [
    json.loads(line)['step']
    for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()
  ]
  assert steps == [2, 4, 6, 8, 10, 12]


def test_continued_on_another_number_of_devices(tmp_path, uninterrupted):
  workdir = tmp_path / 'run'
  shutil.copytree(uninterrupted, workdir)
  shutil.rmtree(workdir / 'checkpoints' / '12')
  process = start(
    f'--workdir={workdir}', '--config.steps=12', '--cpu_devices=1'
  )
  output, _ = process.communicate()
  assert process.returncode == 0, output
  assert 'continuing from the checkpoint of step 10' in output
  ours, theirs = (
    json.loads((folder / 'summary.json').read_text())
    for folder in (workdir, uninterrupted)
  )
  assert ours['loss'] == pytest.approx(theirs['loss'], rel=1e-4)


@pytest.mark.parametrize(
  ('number', 'code'),
  [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_a_signal_writes_a_checkpoint(number, code, tmp_path):
  process = start(
    f'--workdir={tmp_path}',
    '--config.steps=100000',
    '--config.checkpoint.every_steps=1000000',
    '--config.log.every_steps=1',
  )
  wait_for(process, tmp_path / 'metrics.jsonl')
  process.send_signal(number)
  began = len((tmp_path / 'metrics.jsonl').read_text().splitlines())
  output, _ = process.communicate(timeout=60)
  assert process.returncode == code, output
  (step,) = (int(p.name) for p in (tmp_path / 'checkpoints').glob('[0-9]*'))
  # The step under way, the one that was started meanwhile, no more.
  assert step <= began + 3
  assert f'stopped by {number.name} at step {step}' in output
  assert 'Traceback' not in output


@pytest.mark.parametrize(
  ('number', 'code'),
  [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_a_signal_is_answered_before_the_first_step(number, code, tmp_path):
  process = start(
    f'--workdir={tmp_path}', '--config.steps=100000', '--config.seed=7'
  )
  for line in process.stdout:
    if 'compiling the first step' in line:
      break
  process.send_signal(number)
  output, _ = process.communicate(timeout=30)
  assert process.returncode == code, output
  assert f'stopped by {number.name}' in output


def test_another_experiment_may_not_use_the_same_folder(tmp_path):
  config = tiny.config()
  (tmp_path / 'checkpoints' / '2').mkdir(parents=True)
  other = config.to_dict()
  other['data']['image_size'] = 8
  other['objective']['temperature'] = 0.1
  other['run'] = {'total_steps': 4}
  (tmp_path / 'config.json').write_text(json.dumps(other))
  with pytest.raises(ValueError, match='objective.temperature=0.1, this one'):
    train.pretrain(config, tmp_path)


def test_a_damaged_config_is_a_sentence(tmp_path):
  (tmp_path / 'checkpoints' / '2').mkdir(parents=True)
  (tmp_path / 'config.json').write_text('{"seed": ')
  with pytest.raises(ValueError, match='config.json is missing or damaged'):
    train.pretrain(tiny.config(), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
  config = tiny.config()
  config.optimizer.name = 'sgd'
  config.optimizer.base_learning_rate = 1e30
  config.optimizer.warmup_epochs = 0.0
  with pytest.raises(FloatingPointError, match='is not saved'):
    train.pretrain(config, tmp_path)
  assert not list((tmp_path / 'checkpoints').glob('[0-9]*'))


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    (('batch_size', 60), 'batch size 60 is not divisible by 8 devices'),
    (('batch_size', 4096), 'batch size 4096 is larger than the 1438 images'),
    (('mapping', 'vmap'), "mapping is 'shard_map' or 'pmap', not 'vmap'"),
    (('objective.name', 'simclrr'), "did you mean 'simclr'"),
    (('objective.temperature', 0.0), 'temperature is 0: it must be above 0'),
    (('objective.loss_reduction', 'max'), "'mean' or 'sum', not 'max'"),
    (('encoder.name', 'resnet51'), "no encoder 'resnet51'"),
    (('data.source', 'folder:nowhere'), 'no folder nowhere'),
    (('data.source', 'digit'), 'unknown data source'),
    (('data.mean', (0.5, 0.5, 0.5)), '3 values, the images have 1 channels'),
    (('log.every_steps', 0), 'log.every_steps is 0: it must be at least 1'),
    (('data.interpolation', 'area'), "'bicubic' or 'bilinear', not 'area'"),
    (('augment.blur', (0.0,) * 3), 'blur is for 3 views, augment.solarize'),
    (('objective.projector_layers', 0), 'projector_layers is 0'),
  ],
)
def test_what_does_not_fit_is_said_before_compiling(
  change, sentence, tmp_path, monkeypatch
):
  config = tiny.config()
  with config.unlocked():
    config.update_from_flattened_dict(dict([change]))
  monkeypatch.setattr(jax, 'jit', None)  # nothing may be compiled
  with pytest.raises((ValueError, FileNotFoundError), match=sentence):
    train.pretrain(config, tmp_path)


@pytest.mark.parametrize(
  ('wrong', 'right'),
  [
    ('encoder.widht', 'encoder.width'),
    ('objective.projector_layer', 'objective.projector_layers'),
  ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known(wrong, right):
  config = tiny.config()
  part, field = wrong.split('.')
  with config.unlocked():
    config[part][field] = 3
  with pytest.raises(ValueError, match=f'did you mean .?{right}'):
    train.pretrain(config, 'unused')


def test_too_few_labels_are_null_not_an_error(tmp_path):
  config = tiny.config()
  config.steps = 1
  config.evaluation.labels_per_class = 1000
  summary = train.pretrain(config, tmp_path)
  assert summary['few_label_accuracy'] is None
  assert summary['linear_accuracy'] > 0


def test_the_main_job_mapped_by_pmap(tmp_path):
  """Donation, checkpoint and resume too: the first of two halves is thrown."""
  config = tiny.config()
  config.mapping = 'pmap'
  train.pretrain(config, tmp_path)
  after_4 = hashes(tmp_path, 4)
  shutil.rmtree(tmp_path / 'checkpoints' / '4')
  train.pretrain(config, tmp_path)
  assert hashes(tmp_path, 4) == after_4


def test_checkpoints_of_an_unknown_run_are_not_adopted(tmp_path):
  (tmp_path / 'checkpoints' / '2').mkdir(parents=True)
  with pytest.raises(ValueError, match='config.json is missing or damaged'):
    train.pretrain(tiny.config(), tmp_path)


@pytest.mark.parametrize(
  ('argument', 'sentence'),
  [
    ('--config.batchsize=3', "did you mean 'batch_size'"),
    ('--config.objektive.x=1', "unknown config key 'objektive.x'"),
    ('--config.data.source=folder:nowhere', 'no folder nowhere'),
    ('--config=configs/nowhere.py', 'no config file configs/nowhere.py'),
    ('--cpu_devices=3', 'batch size 64 is not divisible by 3 devices'),
  ],
)
def test_the_program_says_one_sentence_and_fails(argument, sentence, tmp_path):
  process = start(f'--workdir={tmp_path}', argument)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 1
  (line,) = output.strip().splitlines()
  assert line.startswith('error: ') and sentence in line
