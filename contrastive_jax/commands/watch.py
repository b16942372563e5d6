"""The processes of a job watch each other: one that is lost ends all of them.

A process that is killed or stopped leaves the others in a collective operation,
which nothing in Python can interrupt; JAX aborts them after a while, and prints
a page of C++. Here each keeps a connection to process 0 and sends a sign of
life over it. Who is silent for too long, or whose connection ends without a
farewell, is lost: process 0 tells all others, each prints a sentence and ends
with 1. Where a process finishes no step, its watchdog ends all of them by the
same way, so that each writes its stacks.
"""

import contextlib
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator

from contrastive_jax.commands import rendezvous
from contrastive_jax.training import watchdog

_BEAT = 2.0  # seconds between two signs of life
_SILENCE = 25.0  # seconds after which a process counts as lost
# Seconds from the end of a connection to the sentence: who has ended for a
# reason that all of them know is given the time to say it.
_GRACE = 5.0
_CONNECT = 10.0
# Seconds in which the others read what was said last.
_FAREWELL = 1.0


@contextlib.contextmanager
def watched(host: str | None, silence: float = _SILENCE) -> Iterator[None]:
  """Within, the loss of a process ends this one with a sentence.

  All processes enter together, after `jax.distributed.initialize`.

  Args:
    host: of process 0, as the others reach it; None to find it.
    silence: seconds without a sign of life.
  """
  # Only now: JAX's devices are set up by flags that are read before.
  import jax

  from contrastive_jax.training import processes

  if jax.process_count() == 1:
    yield
    return
  leads = jax.process_index() == 0
  server = rendezvous.listen(0) if leads else None
  mine = ''
  if server is not None:
    names = [host] if host else [socket.gethostname(), _own_address()]
    mine = ' '.join(
      [str(server.getsockname()[1]), secrets.token_hex(8), *names]
    )
  port, token, *names = processes.gather(mine)[0].split()
  connection = None
  if not leads:
    connection = _connect(names, int(port), f'{token} {jax.process_index()}\n')
    if connection is None:
      print(
        f'process {jax.process_index()} cannot reach process 0 at '
        f'{" or ".join(names)}, port {port}: if one of them is lost, the '
        'other hears of it by JAX alone',
        file=sys.stderr,
        flush=True,
      )
  watch = _Watch(server, connection, token, silence)
  watchdog.listeners.append(watch.stuck)
  thread = threading.Thread(target=watch.run, name='watch', daemon=True)
  thread.start()
  try:
    yield
  finally:
    watchdog.listeners.remove(watch.stuck)
    watch.end()
    thread.join(_CONNECT)


def _own_address() -> str:
  """The address that this machine would talk to others from."""
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    try:
      s.connect(('192.0.2.1', 9))  # of no one; nothing is sent
      return s.getsockname()[0]
    except OSError:
      return '127.0.0.1'


def _connect(names: list[str], port: int, hello: str) -> socket.socket | None:
  for name in names:
    try:
      connection = socket.create_connection((name, port), timeout=_CONNECT)
      connection.sendall(hello.encode())
      return connection
    except OSError:
      continue
  return None


class _Watch:
  """The connections of a process, and what was heard of each.

  Process 0 has one to every other; the others have one, to process 0.
  """

  def __init__(self, server, connection, token: str, silence: float):
    self._ended = threading.Event()
    self._wake, self._woken = socket.socketpair()
    self._token, self._silence = token, silence
    self._selector = selectors.DefaultSelector()
    self._selector.register(self._woken, selectors.EVENT_READ)
    self._peers: dict[socket.socket, int] = {}
    self._heard: dict[socket.socket, float] = {}
    self._guests: dict[socket.socket, float] = {}  # who are they? since when
    self._closed: dict[int, float] = {}  # process: when
    self._server = server
    if server is not None:
      self._selector.register(server, selectors.EVENT_READ)
    if connection is not None:
      self._add(connection, 0)

  def end(self) -> None:
    """Takes leave of the others."""
    self._ended.set()
    # That wakes `run`, which may have ended by itself: nobody else closes it.
    self._wake.close()

  def stuck(self) -> None:
    """Tells the others that this process's watchdog ends the job."""
    self._say('!')

  def run(self) -> None:
    """Until the job ends, or a process is lost."""
    beat = last = time.monotonic()
    while not self._ended.is_set():
      for key, _ in self._selector.select(_BEAT):
        if key.fileobj is self._server:
          self._accept()
        elif isinstance(key.fileobj, socket.socket) and key.data:
          key.data(key.fileobj)
      now = time.monotonic()
      # Stopped itself, by a scheduler or a debugger: the others perhaps, too.
      if now - last > 3 * _BEAT:
        self._heard = dict.fromkeys(self._heard, now)
      last = now
      if now - beat >= _BEAT:
        self._say('.')
        beat = now
      self._look(now)
    self._leave('bye\n')
    self._selector.close()
    mine = [*self._peers, *self._guests, self._server, self._woken]
    for connection in filter(None, mine):
      connection.close()

  def _add(self, connection: socket.socket, process: int) -> None:
    connection.settimeout(1.0)
    self._peers[connection] = process
    self._heard[connection] = time.monotonic()
    self._selector.register(connection, selectors.EVENT_READ, self._read)

  def _accept(self) -> None:
    try:
      connection, _ = self._server.accept()
    except OSError:
      return  # it was gone again
    # Its hello may take a while, on a busy machine; nobody waits for it.
    self._guests[connection] = time.monotonic()
    self._selector.register(connection, selectors.EVENT_READ, self._greet)

  def _greet(self, connection: socket.socket) -> None:
    self._guests.pop(connection)
    self._selector.unregister(connection)
    with contextlib.suppress(OSError, ValueError):
      connection.settimeout(1.0)
      # Not a byte more: its first sign of life may have come by now.
      hello = b''
      while hello[-1:] != b'\n' and (byte := connection.recv(1)):
        hello += byte
      token, process = hello.decode().split()
      if token == self._token:
        self._add(connection, int(process))
        return
    connection.close()  # something else that knocked

  def _read(self, connection: socket.socket) -> None:
    try:
      data = connection.recv(1024)
    except OSError:
      data = b''
    self._heard[connection] = time.monotonic()
    if b'lost ' in data:
      self._end(data.decode().partition('lost ')[2].strip())
    if b'!' in data:
      self.stuck()  # from process 0 it goes on to the others
      watchdog.end(f'process {self._peers[connection]} finishes no step')
    if b'bye' in data or not data:
      process = self._peers.pop(connection)
      self._heard.pop(connection)
      self._selector.unregister(connection)
      connection.close()
      if not data:
        self._closed[process] = time.monotonic()

  def _look(self, now: float) -> None:
    for connection, heard in self._heard.items():
      if now - heard > self._silence:
        self._end(
          f'process {self._peers[connection]} has not answered for '
          f'{self._silence:g} s'
        )
    for process, since in self._closed.items():
      if now - since > _GRACE:
        self._end(f'process {process} has ended')
    for connection, since in list(self._guests.items()):
      if now - since > self._silence:
        self._guests.pop(connection)
        self._selector.unregister(connection)
        connection.close()

  def _say(self, text: str) -> None:
    for connection in list(self._peers):  # also by the watchdog's thread
      with contextlib.suppress(OSError):
        connection.sendall(text.encode())

  def _leave(self, last: str) -> None:
    self._say(last)
    # What a process has not read when it closes a connection resets it, and a
    # reset may take from the other end what that has not read yet (RFC 9293,
    # 3.10.7.4): so each reads until the other is done, too.
    for connection in self._peers:
      with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    end = time.monotonic() + _FAREWELL
    for connection in self._peers:
      with contextlib.suppress(OSError):
        while (left := end - time.monotonic()) > 0:
          connection.settimeout(left)
          if not connection.recv(1024):
            break

  def _end(self, sentence: str) -> None:
    print(
      f'error: {sentence}: see what it prints; the same command on all of them '
      'continues the run',
      file=sys.stderr,
      flush=True,
    )
    self._leave(f'lost {sentence}\n')
    os._exit(1)  # the main thread waits for that process, and cannot be ended
