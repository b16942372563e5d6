"""Two real processes, joined over loopback, against one device."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from contrastive_jax.training import parity
from tests import train_test
from tests.training import step_test

# Runs in each process: the gradient of the first batch, on 2 x 2 devices.
CHILD = """
import sys
import jax
jax.config.update('jax_num_cpu_devices', 2)
process, port, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f'127.0.0.1:{port}', 2, process)
import numpy as np
from tests import train_test
from tests.training import step_test
for mapping in ('shard_map', 'pmap'):
  gradient, model_state, metrics = step_test.gradient_on(4, mapping)
  if process == 0:
    leaves = jax.tree.leaves((gradient, model_state, metrics['loss']))
    np.savez(f'{path}/{mapping}.npz', *leaves)
"""


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def start_pair(arguments_of) -> list[subprocess.Popen]:
  return [
    subprocess.Popen(
      [sys.executable, *arguments_of(process)],
      cwd=train_test.ROOT,
      env=train_test.ENVIRONMENT,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for process in range(2)
  ]


def finish(pair: list[subprocess.Popen]) -> list[str]:
  outputs = [process.communicate(timeout=300)[0] for process in pair]
  for process, output in zip(pair, outputs, strict=True):
    assert process.returncode == 0, output
  return outputs


def job(port: int, workdir: pathlib.Path, *more: str):
  return lambda process: [
    '-m',
    'contrastive_jax.main',
    '--config=tests/tiny.py',
    f'--workdir={workdir}',
    f'--coordinator=127.0.0.1:{port}',
    '--processes=2',
    f'--process={process}',
    *more,
  ]


def test_gradient_of_two_processes(tmp_path):
  port = free_port()
  finish(
    start_pair(lambda process: ['-c', CHILD, str(process), str(port), tmp_path])
  )
  gradient, model_state, metrics = step_test.gradient_on(1, 'shard_map')
  reference = jax.tree.leaves((gradient, model_state, metrics['loss']))
  for mapping in ('shard_map', 'pmap'):
    stored = np.load(tmp_path / f'{mapping}.npz')
    leaves = [stored[name] for name in stored.files]
    assert max(parity.relative_errors(leaves, reference)) < 1e-5


def test_the_main_job_in_two_processes(tmp_path):
  together, alone = tmp_path / 'together', tmp_path / 'alone'
  # And the optimizer's state is in parts, of which each process has some.
  parts = '--cpu_devices=1', '--config.sharding=zero'
  finish(start_pair(job(free_port(), together, *parts)))
  process = train_test.start(f'--workdir={alone}')
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  ours, theirs = (
    json.loads((folder / 'summary.json').read_text())
    for folder in (together, alone)
  )
  np.testing.assert_allclose(ours['loss'], theirs['loss'], rtol=1e-4)
  for row in ours['rows']:
    for name, value in ours['rows'][row].items():
      # A rounding may move an example or two of 359 over the border.
      assert abs(value - theirs['rows'][row][name]) < 0.01 * max(1, value)


def test_sigterm_to_one_process_stops_both_at_one_step(tmp_path):
  pair = start_pair(
    job(
      free_port(),
      tmp_path,
      '--config.steps=100000',
      '--config.checkpoint.every_steps=1000000',
    )
  )
  train_test.wait_for(pair[0], tmp_path / 'metrics.jsonl')
  pair[1].send_signal(signal.SIGTERM)
  outputs = finish(pair)
  (step,) = (int(p.name) for p in (tmp_path / 'checkpoints').glob('[0-9]*'))
  for output in outputs:
    assert f'stopped by SIGTERM at step {step:,}' in output


def test_sigterm_to_both_is_answered_before_the_first_step(tmp_path):
  """JAX has the signal since they were joined, and nobody asks it yet."""
  pair = start_pair(job(free_port(), tmp_path, '--config.seed=7'))
  for line in pair[0].stdout:
    if 'compiling the first step' in line:
      break
  began = time.monotonic()
  for process in pair:
    process.send_signal(signal.SIGTERM)
  for output in finish(pair):
    assert 'stopped by SIGTERM; all there is to save is saved' in output
  assert time.monotonic() - began < 20


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--config.optimizer.momentum=0.5'], 'optimizer.momentum=0.5, process 0'),
    (['--config.data.source=idx:/nowhere'], '/nowhere'),
    (['--config.data.held_out=0.5'], 'process 1 has data.held_out=0.5'),
  ],
)
def test_what_one_process_has_otherwise_all_of_them_say(tmp_path, flags, said):
  port = free_port()
  pair = start_pair(
    lambda process: job(port, tmp_path / 'run', *(flags * process))(process)
  )
  for process in pair:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert said in output
    assert 'Traceback' not in output
    assert sum(x.startswith('error: ') for x in output.splitlines()) == 1


def test_the_death_of_a_process_is_a_sentence_and_the_run_goes_on(tmp_path):
  arguments = ('--config.steps=100000',)
  pair = start_pair(job(free_port(), tmp_path, *arguments))
  train_test.wait_for(pair[0], tmp_path / 'checkpoints' / '4')
  pair[1].send_signal(signal.SIGKILL)
  pair[1].communicate()
  output, _ = pair[0].communicate(timeout=120)
  assert pair[0].returncode != 0
  # By JAX's own error, or by the watch: whichever comes first.
  ends = 'another process of the job has ended', 'process 1 has ended'
  assert any(sentence in output for sentence in ends)
  assert 'Traceback' not in output
