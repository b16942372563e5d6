"""A run killed again and again, against the same run left alone.

  python -m experiments.torture.kills [--kills=20] [--seed=0]

Kills at random moments (SIGKILL), start-up and evaluation included, and starts
again, four times a run at most, until so many kills are done. Of each run
summary.json, metrics.jsonl and the TensorBoard events have to be those of the
run left alone, to the bit, but for what is about time.
"""

import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

_KILLS = flags.DEFINE_integer('kills', 20, 'How many.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the moments.')
_MOST = 4  # kills of one run: most are over before it has got far
_TIMED = ('images_per_second', 'data_wait', 'seconds_left')
_COMMAND = (
  '-m',
  'contrastive_jax.main',
  '--config=tests/tiny.py',
  '--config.steps=60',
  '--config.log.every_steps=5',
  '--config.checkpoint.every_steps=10',
)


def start(workdir: pathlib.Path) -> subprocess.Popen:
  """Starts the run, or continues it."""
  return subprocess.Popen(
    [sys.executable, *_COMMAND, f'--workdir={workdir}'],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )


def found(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns what a run has written, without what is about time."""
  from tensorboard.backend.event_processing import event_accumulator

  def untimed(report):
    return {k: v for k, v in report.items() if k not in _TIMED}

  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  events = event_accumulator.EventAccumulator(
    str(workdir), size_guidance={event_accumulator.TENSORS: 0}
  ).Reload()
  scalars = {
    tag: [
      (event.step, event.tensor_proto.SerializeToString())
      for event in events.Tensors(tag)
    ]
    for tag in events.Tags()['tensors']
    if tag not in _TIMED
  }
  return {
    'summary.json': untimed(json.loads((workdir / 'summary.json').read_text())),
    'metrics.jsonl': [untimed(json.loads(line)) for line in lines],
    'TensorBoard': scalars,
  }


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
