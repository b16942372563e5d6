"""A work folder is one run's at a time."""

import errno
import fcntl
import signal
import subprocess
import sys

import pytest

from contrastive_jax import config as config_lib
from contrastive_jax.evaluation import encoder
from contrastive_jax.reporting import folder as reporting
from contrastive_jax.training.lock import Lock
from tests import tiny, train_test


def test_one_at_a_time(tmp_path):
  with Lock(tmp_path / 'a' / 'b') as lock, Lock(tmp_path / 'a' / 'b') as other:
    lock.take()
    lock.take()
    with pytest.raises(config_lib.Error, match=r'written by process \d+ on .*'):
      other.take()
  with Lock(tmp_path / 'a' / 'b') as other:
    other.take()


@pytest.mark.parametrize('content', [b'', b'\xff\x00', b'x' * 10_000])
def test_what_stands_in_the_file_is_harmless(tmp_path, content):
  (tmp_path / 'run.lock').write_bytes(content)
  with Lock(tmp_path) as lock:
    lock.take()
  with (tmp_path / 'run.lock').open('r+b') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.truncate(0)
    file.write(content)
    file.flush()
    with Lock(tmp_path) as lock, pytest.raises(config_lib.Error):
      lock.take()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
  def refused(*_):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', refused)
  with Lock(tmp_path) as lock:
    lock.take()
  assert 'without locks: start no second run' in capsys.readouterr().out


def test_a_second_process_ends_before_it_touches_anything(tmp_path):
  workdir = tmp_path / 'run'
  arguments = (
    f'--workdir={workdir}',
    '--config.steps=100000',
    '--config.checkpoint.keep=1000000',
  )
  first = train_test.start(*arguments)
  try:
    train_test.wait_for(first, workdir / 'checkpoints' / '2')
    # Of another config even: it ends at the lock.
    second = train_test.start(*arguments, '--config.seed=3')
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 1
    (line,) = output.strip().splitlines()
    assert (
      f'error: {workdir} is being written by process {first.pid} on' in line
    )
    assert first.poll() is None
    # Who reads is not kept out.
    assert int(encoder.load(workdir, 2)[1].step) == 2
    assert reporting.read(workdir).reports
    command = [sys.executable, '-m', 'contrastive_jax.report']
    subprocess.run(
      [*command, f'--workdir={workdir}'],
      cwd=train_test.ROOT,
      env=train_test.ENVIRONMENT,
      check=True,
      capture_output=True,
    )
  finally:
    first.send_signal(signal.SIGKILL)
    first.communicate()
  with Lock(workdir) as lock:
    lock.take()  # death has released it


def test_a_wrong_config_leaves_no_folder(tmp_path):
  from contrastive_jax import train

  config = tiny.config()
  config.batch_size = 60
  with pytest.raises(config_lib.Error, match='not divisible'):
    train.pretrain(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
