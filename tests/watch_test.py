"""A process that is stopped, killed or leaves: what the others of the job say.

Two processes without JAX, joined as `watch.watched` joins them.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from contrastive_jax.commands import rendezvous, watch
from contrastive_jax.training import watchdog
from tests import processes_test, train_test

# Watches until its standard input ends.
CHILD = """
import socket, sys, threading
from contrastive_jax.commands import rendezvous, watch
from contrastive_jax.training import watchdog
leads, port = sys.argv[1] == '0', int(sys.argv[2])
watch._BEAT, watch._GRACE, watch._FAREWELL = 0.2, 0.5, 5.0
server = rendezvous.listen(port) if leads else None
print('ready', flush=True)
connection = None
if not leads:
  sys.stdin.readline()
  connection = watch._connect(['127.0.0.1'], port, f'token {sys.argv[1]}\\n')
watched = watch._Watch(server, connection, 'token', silence=2.0)
thread = threading.Thread(target=watched.run)
thread.start()
watchdog.listeners.append(watched.stuck)
watchdog.Watchdog(0, int(sys.argv[1])).finished(6 + int(sys.argv[1]))
if sys.stdin.readline() == 'stuck\\n':
  watchdog.end_all('no step has finished')
watched.end()
thread.join()
print('left', flush=True)
"""


@pytest.fixture
def three():
  port = processes_test.free_port()
  children = []
  for number in range(3):
    child = subprocess.Popen(
      [sys.executable, '-c', CHILD, str(number), str(port)],
      cwd=train_test.ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    children.append(child)
    assert child.stdout.readline() == 'ready\n'
    if number:
      child.stdin.write('connect\n')
      child.stdin.flush()
  yield children
  for child in children:
    child.kill()
    child.communicate()


def said(child) -> str:
  assert child.wait(timeout=20) == 1
  errors = child.stderr.read()
  assert 'the same command on all of them continues the run' in errors
  return errors


@pytest.mark.parametrize('lost', [0, 2])
@pytest.mark.parametrize(
  ('sign', 'sentence'),
  [
    (signal.SIGSTOP, 'process {} has not answered for 2 s'),
    (signal.SIGKILL, 'process {} has ended'),
  ],
)
def test_a_lost_process_is_named_by_all_others(three, lost, sign, sentence):
  # Until they are joined, nobody is missed.
  with pytest.raises(subprocess.TimeoutExpired):
    three[lost].wait(1.0)
  three[lost].send_signal(sign)
  for number, child in enumerate(three):
    if number != lost:
      assert sentence.format(lost) in said(child)


@pytest.fixture
def server():
  with rendezvous.listen(0) as listening:
    yield listening


def test_a_first_sign_of_life_may_come_with_the_hello(server):
  leader = watch._Watch(server, None, 'token', silence=1.0)
  with socket.create_connection(server.getsockname()[:2]) as one:
    one.sendall(b'token 1\n.bye\n')
    leader._accept()
    leader._greet(*leader._guests)
    assert list(leader._peers.values()) == [1]
    leader._read(*leader._peers)
    assert not leader._peers
    assert not leader._closed
  leader._ended.set()
  leader.run()
  leader.end()


def connect(server) -> socket.socket:
  return socket.create_connection(server.getsockname()[:2], timeout=10)


def test_a_hello_may_be_late_and_nobody_waits_for_it(server, monkeypatch):
  monkeypatch.setattr(watch, '_BEAT', 0.1)
  leader = watch._Watch(server, None, 'token', silence=60.0)
  thread = threading.Thread(target=leader.run)
  thread.start()
  with connect(server) as late, connect(server) as one:
    one.sendall(b'token 1\n')
    assert one.recv(1) == b'.'
    late.settimeout(1.5)
    with pytest.raises(TimeoutError):  # it is not hung up on
      late.recv(1)
    late.sendall(b'token 2\n')
    assert late.recv(1) == b'.'
    leader.end()
    for connection in (late, one):
      assert b'bye' in b''.join(iter(lambda c=connection: c.recv(64), b''))
  thread.join(10)
  assert not thread.is_alive()


def test_who_knocks_and_says_nothing_is_let_go(server, monkeypatch):
  monkeypatch.setattr(watch, '_BEAT', 0.1)
  leader = watch._Watch(server, None, 'token', silence=0.5)
  thread = threading.Thread(target=leader.run)
  thread.start()
  with connect(server) as stranger:
    assert stranger.recv(1) == b''
  leader.end()
  thread.join(10)


def test_the_last_word_is_not_lost_in_a_reset(three):
  # Process 0 ends while it is being written to: what is not read when a
  # connection is closed resets it.
  port = three[0].args[-1]
  with pytest.raises(subprocess.TimeoutExpired):
    three[0].wait(1.0)
  with socket.create_connection(('127.0.0.1', int(port)), timeout=10) as four:
    four.sendall(b'token 4\n')
    three[2].send_signal(signal.SIGKILL)
    heard = b''
    while b'lost' not in heard:
      time.sleep(0.01)
      four.sendall(b'.' * 1000)
      four.setblocking(False)
      with contextlib.suppress(BlockingIOError):
        heard += four.recv(1)
      four.settimeout(10)
    four.sendall(b'.' * 1000)  # it still listens
    four.shutdown(socket.SHUT_WR)
    rest = b''.join(iter(lambda: four.recv(1024), b''))  # no reset
  assert heard + rest == heard[:-4] + b'lost process 2 has ended\n'


def test_leave_is_taken_of_a_watch_that_has_noticed_by_itself(server):
  leader = watch._Watch(server, None, 'token', silence=1.0)
  leader._ended.set()
  leader.run()
  leader.end()


def test_who_takes_leave_is_not_missed(three):
  with pytest.raises(subprocess.TimeoutExpired):
    three[2].wait(1.0)
  three[2].stdin.write('leave\n')
  three[2].stdin.flush()
  assert three[2].wait(timeout=10) == 0
  with pytest.raises(subprocess.TimeoutExpired):
    three[0].wait(3.0)  # longer than the silence, and than the grace
  for child in three[:2]:
    child.stdin.write('leave\n')
    child.stdin.flush()
    assert child.wait(timeout=10) == 0


@pytest.mark.parametrize('stuck', [0, 2])
def test_all_say_where_they_stand_when_one_is_stuck(three, stuck):
  with pytest.raises(subprocess.TimeoutExpired):
    three[2].wait(1.0)
  three[stuck].stdin.write('stuck\n')
  three[stuck].stdin.flush()
  for number, child in enumerate(three):
    assert child.wait(timeout=20) == watchdog.EXIT_CODE
    errors = child.stderr.read()
    assert f'Process {number} stands after step {6 + number}' in errors
    assert 'Current thread' in errors or 'Thread 0x' in errors
