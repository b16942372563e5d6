"""Signals: SIGTERM, Ctrl-C and SIGHUP end a job with its state on disk."""

import os
import signal
import sys
import threading

_EXIT_CODES: dict[int, int] = {
  signal.SIGTERM: 0,
  signal.SIGINT: 130,
  signal.SIGHUP: 129,
}


class Termination:
  """Whether a signal asked this job to stop, in every process alike.

  Until `begin` there is no state that is not on disk yet, and the main thread
  may be deep in a compilation where no Python handler runs: a thread of its own
  answers then, and ends the process. After it, the loop asks `requested`.
  """

  def __init__(self):
    """Does nothing yet; signals are caught within `with`."""
    self._received: int | None = None
    self._at_once = True
    self._before = {}
    self._wakeup = (-1, -1)

  def __enter__(self) -> 'Termination':
    import jax  # only here: a command's --help is not to wait for it

    # JAX's coordination service catches signals of several processes itself.
    self._alone = jax.process_count() == 1
    main_thread = threading.current_thread() is threading.main_thread()
    if not (self._alone and main_thread):
      return self
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    self._wakeup = (reading, writing)
    self._before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in _EXIT_CODES:
      self._before[number] = signal.signal(number, self._receive)
    threading.Thread(target=self._watch, args=(reading,), daemon=True).start()
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler or signal.SIG_DFL)
    if self._wakeup[1] >= 0:
      signal.set_wakeup_fd(self._before_fd)
      os.close(self._wakeup[1])  # ends the watching thread

  def begin(self) -> None:
    """From now on the loop looks for a signal, after every step."""
    self._at_once = False

  def end(self) -> None:
    """All is saved: from now on a signal ends the process where it stands."""
    self._at_once = True
    if self._received is not None:
      sys.exit(self.exit_code)

  @property
  def exit_code(self) -> int:
    """What the process ends with: 0 after SIGTERM, 130 after Ctrl-C."""
    return _EXIT_CODES.get(self._received or signal.SIGTERM, 0)

  @property
  def name(self) -> str:
    """The signal's name, for a sentence."""
    if self._received is None:
      return 'SIGTERM'
    return signal.Signals(self._received).name

  def requested(self, step: int) -> bool:
    """Returns whether to stop after `step`; the processes agree on one."""
    if self._alone:
      return self._received is not None
    from jax.experimental import multihost_utils

    # JAX's coordination service has caught the signal of any process, and
    # names one step to all of them.
    return multihost_utils.reached_preemption_sync_point(step)

  def _receive(self, number, _) -> None:
    self._received = number

  def _watch(self, reading: int) -> None:
    """Waits for signal numbers, which C code writes, whatever Python does."""
    while data := os.read(reading, 1):
      if self._at_once and data[0] in _EXIT_CODES:
        name = signal.Signals(data[0]).name
        print(f'stopped by {name}; all there is to save is saved', flush=True)
        os._exit(_EXIT_CODES[data[0]])
    os.close(reading)
