"""A signal is answered, whatever else goes wrong at that moment."""

import subprocess
import sys

# Process 0 outlives the others, whose end makes its own work fail.
_SCRIPT = """
import os, signal, time
from contrastive_jax.training.termination import Termination
with Termination() as termination:
  termination._leads = True
  with termination.answers_first():
    if {signaled}:
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(0.5)
    raise RuntimeError('the other process is gone')
"""


def _ended(signaled):
  return subprocess.run(
    [sys.executable, '-c', _SCRIPT.format(signaled=signaled)],
    capture_output=True,
    text=True,
    timeout=60,
  )


def test_what_the_end_of_another_breaks_is_no_failure():
  process = _ended(True)
  assert process.returncode == 0, process.stderr
  assert 'stopped by SIGTERM' in process.stdout
  assert 'Traceback' not in process.stderr


def test_without_a_signal_an_error_is_one():
  process = _ended(False)
  assert process.returncode == 1
  assert 'RuntimeError: the other process is gone' in process.stderr
