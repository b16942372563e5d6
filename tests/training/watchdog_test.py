"""A run that no longer moves: when it is ended, and what it says."""

import subprocess
import sys

from contrastive_jax.training import watchdog
from tests import train_test

HUNG = """
import time
from contrastive_jax.training import watchdog
def waits_for_ever():
  time.sleep(1000)
dog = watchdog.Watchdog(0.01)
dog.start()
dog.finished(1234)
waits_for_ever()
"""

# A report of 9 s, where a step may take 6 s; then a batch that never comes.
TRAINED = """
import sys, time
from contrastive_jax import train
from contrastive_jax.training import build
from tests import tiny
config = tiny.get_config()
config.watchdog_minutes = 0.1
config.steps = 100
batches = build.train_batches

class Batches:
  def __init__(self, *arguments):
    self._batches, self._left = batches(*arguments), 3
    self.close = self._batches.close
  def __next__(self):
    self._left -= 1
    if self._left < 0:
      time.sleep(1000)
    return next(self._batches)

build.train_batches = Batches
train.pretrain(config, sys.argv[1], on_report=lambda report: time.sleep(9))
"""


def run(code: str, *arguments: str) -> str:
  child = subprocess.run(
    [sys.executable, '-c', code, *arguments],
    cwd=train_test.ROOT,
    env=train_test.ENVIRONMENT,
    capture_output=True,
    text=True,
    timeout=180,
  )
  assert child.returncode == watchdog.EXIT_CODE, child.stdout + child.stderr
  return child.stderr


def test_a_step_has_the_time_and_all_else_ten_times_as_much():
  said = []
  dog = watchdog.Watchdog(1.0, fire=said.append)
  dog.look(599)  # the first step compiles
  assert not said
  dog.look(2)
  assert said.pop().startswith('no step has finished for 10 minutes')
  dog.finished(1)
  dog.look(59)
  dog.finished(2)
  dog.look(59)
  with dog.patient():
    dog.look(500)
  dog.look(59)
  assert not said
  dog.look(2)
  assert said.pop().startswith('no step has finished for 1 minutes')


def test_says_where_it_stands_and_ends():
  errors = run(HUNG)
  assert 'no step has finished for 0.01 minutes' in errors
  assert 'Process 0 stands after step 1,234' in errors
  assert 'in waits_for_ever' in errors


def test_a_run_whose_data_no_longer_comes(tmp_path):
  errors = run(TRAINED, str(tmp_path))
  assert 'stands after step 2;' in errors
  assert 'in __next__' in errors
