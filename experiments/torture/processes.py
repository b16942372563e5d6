"""One of two processes killed, stopped or terminated: what does the other say?

  python -m experiments.torture.processes [--seed=0]

Each of SIGKILL, SIGSTOP and SIGTERM is sent to process 0 and to process 1, at a
random moment of the training. The other has to end with a sentence, within a
minute and without a traceback; the same command on both then continues the run,
and what it has written has to be that of a run left alone, to the bit.
"""

import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from experiments.torture.small_run import COMMAND, found

_SEED = flags.DEFINE_integer('seed', 0, 'Of the moments.')
_SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
_MINUTE = 60.0


def start(workdir: pathlib.Path) -> list[subprocess.Popen]:
  """Starts both processes, or continues them."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  return [
    subprocess.Popen(
      [
        sys.executable,
        *COMMAND,
        '--cpu_devices=1',
        f'--workdir={workdir}',
        f'--coordinator=127.0.0.1:{port}',
        '--processes=2',
        f'--process={process}',
      ],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for process in range(2)
  ]


def sentence_of(output: str) -> str:
  """Returns what a user reads at the end, or what he should not."""
  if 'Traceback' in output or 'F0000' in output:
    return f'TRACEBACK\n{output[-2000:]}'
  said = [x for x in output.splitlines() if x.startswith(('error:', 'stopped'))]
  return said[-1] if said else f'NO SENTENCE\n{output[-2000:]}'


def hurt(sign: signal.Signals, which: int, workdir: pathlib.Path, wait: float):
  """Sends a signal to one of two processes, once they train.

  Returns:
    The other's sentence, its exit code, and the seconds that it took.
  """
  pair = start(workdir)
  while not (workdir / 'metrics.jsonl').exists():
    if any(process.poll() is not None for process in pair):
      sys.exit('\n'.join(process.communicate()[0] for process in pair))
    time.sleep(0.1)
  time.sleep(wait)
  pair[which].send_signal(sign)
  began, other = time.perf_counter(), pair[1 - which]
  try:
    output, _ = other.communicate(timeout=2 * _MINUTE)
    said = sentence_of(output)
  except subprocess.TimeoutExpired:
    said = 'NO END'
  seconds = time.perf_counter() - began
  for process in pair:
    process.kill()
    process.communicate()
  return said, other.returncode, seconds


def main(argv: list[str]) -> None:
  """Prints a line a case, and fails if one is not as it has to be."""
  del argv
  rng, wrong = random.Random(_SEED.value), 0
  with tempfile.TemporaryDirectory() as name:
    alone = pathlib.Path(name, 'alone')
    for process in start(alone):
      if process.wait():
        sys.exit('the run left alone fails')
    expected = found(alone)
    for sign in _SIGNALS:
      for which in range(2):
        workdir = pathlib.Path(name, f'{sign.name}_{which}')
        said, code, seconds = hurt(sign, which, workdir, rng.uniform(0, 1))
        codes = [process.wait() for process in start(workdir)]
        got = found(workdir) if codes == [0, 0] else {}
        same = got == expected
        fine = same and seconds < _MINUTE and said.startswith(('error', 'stop'))
        wrong += not fine
        print(
          f'{sign.name} to process {which}: the other exits with {code} after '
          f'{seconds:.0f} s: {said}\n  continued: exit {codes}, '
          + ('the same to the bit' if same else 'DIFFERS'),
          flush=True,
        )
  print(f'{wrong} of {2 * len(_SIGNALS)} are not as they have to be')
  sys.exit(int(wrong > 0))


if __name__ == '__main__':
  app.run(main)
