"""A run that no longer moves ends itself, says where, and is started again.

Nothing in Python can interrupt a collective operation that waits for ever, or a
read from a file server that is gone: a scheduler would pay for it until its
time limit.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

# What a process ends with: EX_TEMPFAIL of sysexits.h, "try again later". A
# scheduler can requeue on it, as nothing else here exits with it.
EXIT_CODE = 75
# What stands between two steps (compiling, a report, an evaluation, a
# checkpoint) is given so many times the time of a step.
_PATIENCE = 10
_LOOKS = 20  # a limit
_LONGEST = 30.0  # seconds between two looks
# Seconds that the processes of a job give each other to write their stacks: JAX
# aborts the others once process 0 is gone.
_TOGETHER = 3.0

# Who else is told when it fires: the other processes, see `commands/watch.py`.
listeners: list[Callable[[], None]] = []
_ending = threading.Lock()
_process = 0
_step: int | None = None


class Watchdog:
  """Ends the process if no step of the loop is finished for too long."""

  def __init__(
    self,
    minutes: float,
    process: int = 0,
    fire: Callable[[str], None] | None = None,
  ):
    """Does nothing before `start`.

    Args:
      minutes: without a finished step; 0: for ever.
      process: which of the job's this is.
      fire: called with a sentence instead of ending the process.
    """
    global _process, _step
    _process, _step = process, None
    self._minutes = minutes
    self._fire = fire or end_all
    self._quiet = 0.0  # seconds since something was finished
    self._patience = _PATIENCE  # at first, it compiles
    self._ended = threading.Event()

  def start(self) -> None:
    """Looks from now on, in a thread of its own."""
    if self._minutes:
      threading.Thread(target=self._run, name='watchdog', daemon=True).start()

  def end(self) -> None:
    """Looks no more."""
    self._ended.set()

  def finished(self, step: int) -> None:
    """Counts from here: a step is finished."""
    global _step
    _step, self._quiet = step, 0.0
    self._patience = 1

  @contextlib.contextmanager
  def patient(self) -> Iterator[None]:
    """What is within is no step, and may take longer."""
    before, self._patience = self._patience, _PATIENCE
    yield
    self._quiet, self._patience = 0.0, before

  def look(self, seconds: float) -> None:
    """Adds to the time in which nothing was finished; fires if it is too long.

    Args:
      seconds: since the last look.
    """
    self._quiet += seconds
    minutes = self._minutes * self._patience
    if self._quiet >= 60 * minutes:
      self._fire(
        f'no step has finished for {minutes:g} minutes (watchdog_minutes='
        f'{self._minutes:g})'
      )

  def _run(self) -> None:
    # Looks are counted, not time: a process that was stopped, by a debugger or
    # a scheduler that suspends its job, has the same time left afterwards.
    every = min(_LONGEST, 60 * self._minutes / _LOOKS)
    while not self._ended.wait(every):
      self.look(every)


def end(sentence: str) -> None:
  """Says why and where, with the stack of every thread, and ends the process.

  Args:
    sentence: why, without a period.
  """
  # For ever: a second thread waits for the end that the first makes, as all
  # watchdogs of a job fire together, and tell each other.
  _ending.acquire()
  where = 'before its first step' if _step is None else f'after step {_step:,}'
  # In one piece: other processes may write to the same file.
  sys.stderr.write(
    f'error: {sentence}. Process {_process} stands {where}; its stacks follow; '
    f'it exits with {EXIT_CODE}, and the same command continues the run\n'
  )
  sys.stderr.flush()
  faulthandler.dump_traceback(all_threads=True)
  if listeners:
    time.sleep(_TOGETHER)
  os._exit(EXIT_CODE)  # the main thread cannot be interrupted


def end_all(sentence: str) -> None:
  """Ends all processes of the job, each as `end` does.

  Args:
    sentence: why, without a period.
  """
  for tell in listeners:
    tell()
  end(sentence)
