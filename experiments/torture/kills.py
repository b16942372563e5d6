"""A run killed again and again, against the same run left alone.

  python -m experiments.torture.kills [--kills=20] [--seed=0]

Kills at random moments (SIGKILL), start-up and evaluation included, and starts
again, four times a run at most, until so many kills are done. Of each run
summary.json, metrics.jsonl and the TensorBoard events have to be those of the
run left alone, to the bit, but for what is about time.
"""

import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from experiments.torture.small_run import COMMAND, found

_KILLS = flags.DEFINE_integer('kills', 20, 'How many.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the moments.')
_MOST = 4  # kills of one run: most are over before it has got far


def start(workdir: pathlib.Path) -> subprocess.Popen:
  """Starts the run, or continues it."""
  return subprocess.Popen(
    [sys.executable, *COMMAND, f'--workdir={workdir}'],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )


def main(argv: list[str]) -> None:
  """Prints a line a run, and fails if one differs."""
  del argv
  rng = random.Random(_SEED.value)
  kills, runs, wrong = 0, 0, 0
  with tempfile.TemporaryDirectory() as name:
    alone = pathlib.Path(name, 'alone')
    began = time.perf_counter()
    if start(alone).wait():
      sys.exit('the run left alone fails')
    seconds = time.perf_counter() - began
    expected = found(alone)
    while kills < _KILLS.value:
      workdir, mine, code = pathlib.Path(name, f'run{runs}'), 0, None
      while code is None:
        process = start(workdir)
        try:
          patience = rng.uniform(0.1, 0.9) * seconds
          code = process.wait(patience if mine < _MOST else None)
        except subprocess.TimeoutExpired:
          process.send_signal(signal.SIGKILL)
          process.wait()
          mine += 1
      kills, runs = kills + mine, runs + 1
      got = found(workdir) if code == 0 else {}
      differ = [what for what in expected if got.get(what) != expected[what]]
      wrong += bool(differ)
      print(
        f'run {runs}, killed {mine} times, exit {code}: '
        + (f'differs in {", ".join(differ)}' if differ else 'the same'),
        flush=True,
      )
  print(f'{kills} kills in {runs} runs; {wrong} runs differ')
  sys.exit(int(wrong > 0))


if __name__ == '__main__':
  app.run(main)
