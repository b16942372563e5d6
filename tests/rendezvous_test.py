"""Processes that do not come, come twice, or were told something else."""

import socket
import threading
import time

import pytest

from contrastive_jax import config as config_lib
from contrastive_jax.commands import rendezvous
from tests import processes_test, train_test


@pytest.mark.parametrize(
  ('coordinator', 'processes', 'process', 'said'),
  [
    (None, 2, None, 'go with --coordinator'),
    (None, None, 0, 'go with --coordinator'),
    ('auto', 2, 0, 'not with auto'),
    ('h:1', None, 0, 'goes with --processes and --process'),
    ('h:1', 2, None, 'goes with --processes and --process'),
    ('h:1', 0, 0, 'it must be at least 1'),
    ('h:1', 2, 2, 'it is 0 to 1'),
    ('h:1', 2, -1, 'it is 0 to 1'),
    ('h', 2, 0, 'is not HOST:PORT'),
    ('h:x', 2, 0, 'is not HOST:PORT'),
    ('h:-1', 2, 0, 'is not HOST:PORT'),
    ('h:70000', 2, 0, 'is not HOST:PORT'),
    ('h:', 2, 0, 'is not HOST:PORT'),
    ('', 2, 0, 'is not HOST:PORT'),
  ],
)
def test_flags_that_contradict_each_other(
  coordinator, processes, process, said
):
  with pytest.raises(config_lib.Error, match=said):
    rendezvous.check_flags(coordinator, processes, process)


def meet(*members, wait=3.0, port=None):
  """What each (processes, process) is told: '' if all are there."""
  port = port or processes_test.free_port()
  told = [''] * len(members)

  def one(place, processes, process):
    try:
      rendezvous.meet(f'127.0.0.1:{port}', processes, process, wait)
    except config_lib.Error as error:
      told[place] = str(error)

  threads = [
    threading.Thread(target=one, args=(i, *member))
    for i, member in enumerate(members)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(timeout=30)
    assert not thread.is_alive()
  return told


def test_all_are_there():
  assert meet((3, 0), (3, 1), (3, 2)) == ['', '', '']
  assert meet((1, 0)) == ['']


def test_the_port_is_free_afterwards():
  port = processes_test.free_port()
  for _ in range(2):
    assert meet((2, 0), (2, 1), port=port) == ['', '']


def test_one_does_not_come():
  told = meet((3, 0), (3, 1), wait=1.0)
  assert told[0] == told[1]
  assert 'process 2 of 3 has not come' in told[0]
  (alone,) = meet((2, 1), wait=1.0)
  assert 'process 1 cannot reach process 0 at 127.0.0.1' in alone


def test_they_were_told_something_else():
  for told in (meet((2, 0), (3, 1)), meet((3, 0), (3, 1), (3, 1))):
    assert len(set(told)) == 1
  assert 'two processes were started with --process=1' in told[0]
  (first, *_) = meet((2, 0), (3, 1))
  assert 'process 1 was started with --processes=3' in first


def test_something_else_is_at_the_port():
  with socket.create_server(('', 0)) as server:
    port = server.getsockname()[1]
    (told,) = meet((2, 0), port=port)
    assert f'cannot listen on port {port}' in told
  with pytest.raises(config_lib.Error, match='finds no host nosuch.invalid'):
    rendezvous.meet('nosuch.invalid:1', 2, 1, 3.0)


def test_something_else_knocks():
  port = processes_test.free_port()

  def knock():
    for _ in range(1000):
      try:
        with socket.create_connection(('127.0.0.1', port)) as connection:
          connection.sendall(b'GET / HTTP/1.1\n')
        return
      except OSError:
        time.sleep(0.001)

  thread = threading.Thread(target=knock)
  thread.start()
  told = meet((2, 0), (2, 1), port=port, wait=20.0)
  thread.join()
  assert told == ['', '']


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (
      ['--coordinator=127.0.0.1:x', '--processes=2', '--process=0'],
      'HOST:PORT',
    ),
    (['--processes=2'], 'go with --coordinator'),
    (['--workdir='], '--workdir is empty'),
    (['--workdir=  '], '--workdir is empty'),
    (['--coordinator=auto'], 'finds no cluster here'),
  ],
)
def test_the_program_says_it(flags, said, tmp_path):
  process = train_test.start(f'--workdir={tmp_path}/run', *flags)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 1, output
  (line,) = output.strip().splitlines()
  assert line.startswith('error: ') and said in line
