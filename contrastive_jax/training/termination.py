"""Signals: SIGTERM, Ctrl-C and SIGHUP end a job with its state on disk."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

_EXIT_CODES: dict[int, int] = {
  signal.SIGTERM: 0,
  signal.SIGINT: 130,
  signal.SIGHUP: 129,
}
# Seconds that process 0 outlives the others: JAX aborts whoever misses it.
_LAST = 2.0


class Termination:
  """Whether a signal asked this job to stop, in every process alike.

  Until `begin` there is no state that is not on disk yet, and the main thread
  may be deep in a compilation where no Python handler runs: a thread of its own
  answers then, and ends the process. After it, the loop asks `requested`.

  Several processes have to stop after the same step, on which JAX's
  coordination service makes them agree. It takes SIGTERM for itself as soon as
  they are joined, by a handler in C that nobody asks before the loop begins:
  `catch` takes the signal back, and from `begin` on JAX is told of it.
  """

  def __init__(self):
    """Does nothing yet; signals are caught within `with`."""
    self._received: int | None = None
    self._at_once = True
    self._answering = False
    self._before = {}
    self._wakeup = (-1, -1)
    self._handler_of_jax: int | None = None
    self._several = self._leads = False

  def __enter__(self) -> 'Termination':
    if threading.current_thread() is not threading.main_thread():
      return self  # Python lets no other one catch signals
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    self._wakeup = (reading, writing)
    self._before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    self._before = {n: signal.getsignal(n) for n in _EXIT_CODES}
    self.catch()
    threading.Thread(target=self._watch, args=(reading,), daemon=True).start()
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler or signal.SIG_DFL)
    if self._handler_of_jax is not None:
      _set_handler_in_c(signal.SIGTERM, self._handler_of_jax)
    if self._wakeup[1] >= 0:
      signal.set_wakeup_fd(self._before_fd)
      os.close(self._wakeup[1])  # ends the watching thread

  def catch(self) -> None:
    """Takes the signals, anew once `jax.distributed.initialize` has them."""
    if not self._before:
      return
    before = _handler_in_c(signal.SIGTERM)
    for number in _EXIT_CODES:
      signal.signal(number, self._receive)
    ours = _handler_in_c(signal.SIGTERM)  # one in C for all of Python's
    if before not in (signal.SIG_DFL, signal.SIG_IGN, ours):
      import jax  # only here: a command's --help is not to wait for it

      self._handler_of_jax = before
      self._leads = jax.process_index() == 0

  def begin(self) -> None:
    """From now on the loop looks for a signal, after every step."""
    if not self._at_once:
      return
    import jax
    from jax.experimental import multihost_utils

    self._several = jax.process_count() > 1
    if self._several:
      # A signal to all of them is to find all of them before this, or after.
      multihost_utils.sync_global_devices('the first step is compiled')
    self._at_once = False

  def end(self) -> None:
    """All is saved: from now on a signal ends the process where it stands."""
    self._at_once = True
    if self._received is not None:
      sys.exit(self.exit_code)

  @contextlib.contextmanager
  def answers_first(self) -> Iterator[None]:
    """Lets no error end the process while a signal is being answered.

    What another process's end, by the same signal, makes of this one's work is
    no failure of the job.
    """
    try:
      yield
    except BaseException:
      if self._answering:
        time.sleep(10 * _LAST)  # the watching thread ends the process
      raise

  @property
  def exit_code(self) -> int:
    """What the process ends with: 0 after SIGTERM, 130 after Ctrl-C."""
    return _EXIT_CODES.get(self._received or signal.SIGTERM, 0)

  @property
  def name(self) -> str:
    """The signal's name, for a sentence."""
    if self._received is None:
      return 'SIGTERM'  # another process has received it
    return signal.Signals(self._received).name

  def requested(self, step: int) -> bool:
    """Returns whether to stop after `step`; the processes agree on one."""
    if not self._several:
      return self._received is not None
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)

  def _receive(self, number, _) -> None:
    self._received = number

  def _watch(self, reading: int) -> None:
    """Waits for signal numbers, which C code writes, whatever Python does."""
    while data := os.read(reading, 1):
      if data[0] not in _EXIT_CODES:
        continue
      if self._at_once:
        self._answering = True
        name = signal.Signals(data[0]).name
        print(f'stopped by {name}; all there is to save is saved', flush=True)
        if self._leads:
          time.sleep(_LAST)
        os._exit(_EXIT_CODES[data[0]])
      if self._handler_of_jax is not None:
        ctypes.CFUNCTYPE(None, ctypes.c_int)(self._handler_of_jax)(
          signal.SIGTERM
        )
    os.close(reading)


def _handler_in_c(number: int) -> int:
  """Returns the address of a signal's handler; Python knows only its own."""
  # A struct sigaction begins with it, in Linux and macOS.
  action = (ctypes.c_size_t * 64)()
  ctypes.CDLL(None).sigaction(number, None, action)
  return action[0]


def _set_handler_in_c(number: int, address: int) -> None:
  ctypes.CDLL(None).signal(number, ctypes.c_void_p(address))
