"""The processes of a job meet before JAX joins them.

JAX ends a process by an abort and a page of C++ if another does not come, comes
twice, or was told another number; and does so after minutes. Here process 0
listens on the coordinator's port first, all others report to it, and all of
them get the same answer.
"""

import contextlib
import json
import socket
import time

from contrastive_jax.config import Error

_RETRY = 0.2  # seconds
_LONGEST = 10_000  # bytes of a message


def address(text: str) -> tuple[str, int]:
  """Returns host and port.

  Args:
    text: HOST:PORT.

  Raises:
    Error: it is something else.
  """
  host, _, port = text.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise Error(
      f'--coordinator={text} is not HOST:PORT, with a port from 1 to 65535'
    )
  return host.strip('[]'), int(port)


def check_flags(
  coordinator: str | None, processes: int | None, process: int | None
) -> None:
  """Refuses flags that contradict each other.

  Args:
    coordinator: HOST:PORT, 'auto', or None.
    processes: how many there are.
    process: which of them this is.

  Raises:
    Error: one sentence.
  """
  given = [processes is not None, process is not None]
  if coordinator in (None, 'auto'):
    if any(given):
      raise Error(
        '--processes and --process go with --coordinator=HOST:PORT'
        + (', not with auto, which finds them' if coordinator else '')
      )
    return
  address(coordinator)
  if processes is None or process is None:
    raise Error('--coordinator=HOST:PORT goes with --processes and --process')
  if processes < 1:
    raise Error(f'--processes={processes}: it must be at least 1')
  if not 0 <= process < processes:
    raise Error(
      f'--process={process}: of {processes} processes it is 0 to '
      f'{processes - 1}'
    )


def meet(coordinator: str, processes: int, process: int, wait: float) -> None:
  """Returns as soon as all processes are there.

  Args:
    coordinator: HOST:PORT of process 0.
    processes: how many there are.
    process: which of them this is.
    wait: seconds to wait for the others.

  Raises:
    Error: not all of them are there in time, or they contradict each other;
      the same on each.
  """
  deadline = time.monotonic() + wait
  host, port = address(coordinator)
  if process == 0:
    _lead(port, processes, deadline, wait)
  else:
    _report(host, port, processes, process, deadline, wait)


def listen(port: int) -> socket.socket:
  """Returns a socket that others reach by IPv6, where there is any, and IPv4.

  Args:
    port: 0 for any.
  """
  if socket.has_dualstack_ipv6():
    return socket.create_server(
      ('', port), family=socket.AF_INET6, dualstack_ipv6=True
    )
  return socket.create_server(('', port))


def _lead(port: int, processes: int, deadline: float, wait: float) -> None:
  try:
    server = listen(port)
  except OSError as error:
    raise Error(
      f'process 0 cannot listen on port {port} ({error.strerror}): give '
      '--coordinator another one'
    ) from error
  there: dict[int, socket.socket] = {}
  with contextlib.ExitStack() as stack:
    stack.enter_context(server)
    problem = ''
    while len(there) < processes - 1 and not problem:
      if (left := deadline - time.monotonic()) <= 0:
        missing = sorted(set(range(1, processes)) - there.keys())
        problem = (
          f'after {wait:g} s process {", ".join(map(str, missing))} of '
          f'{processes} has not come: see what it prints'
        )
        break
      server.settimeout(left)
      try:
        connection, _ = server.accept()
      except TimeoutError:
        continue
      stack.enter_context(connection)
      number, count = _hello(connection)
      if number is None:
        continue  # something else that knocked
      if count != processes:
        problem = (
          f'process {number} was started with --processes={count}, process 0 '
          f'with --processes={processes}'
        )
      elif number in there or number == 0:
        problem = f'two processes were started with --process={number}'
      there[number if number not in there else -1] = connection
    for connection in there.values():
      with contextlib.suppress(OSError):
        connection.sendall(json.dumps({'problem': problem}).encode() + b'\n')
    if problem:
      raise Error(problem)
    for connection in there.values():  # they close first: the port is free
      with contextlib.suppress(OSError):
        connection.settimeout(5)
        connection.recv(1)


def _hello(connection: socket.socket) -> tuple[int | None, int | None]:
  try:
    connection.settimeout(5)
    hello = json.loads(_line(connection))
    return int(hello['process']), int(hello['processes'])
  except (OSError, ValueError, KeyError, TypeError):
    return None, None


def _report(
  host: str,
  port: int,
  processes: int,
  process: int,
  deadline: float,
  wait: float,
) -> None:
  hello = json.dumps({'process': process, 'processes': processes}).encode()
  reason = 'no answer'
  while (left := deadline - time.monotonic()) > 0:
    try:
      with socket.create_connection((host, port), timeout=left) as connection:
        # To a port of its own machine that is free, TCP may join it to itself.
        if connection.getsockname() == connection.getpeername():
          raise ConnectionRefusedError('Connection refused')
        # Process 0 may wait for others until its own deadline, a little later.
        connection.settimeout(left + 5)
        connection.sendall(hello + b'\n')
        answer = json.loads(_line(connection))
      if answer['problem']:
        raise Error(answer['problem'])
      return
    except socket.gaierror as error:
      raise Error(
        f'process {process} finds no host {host} of --coordinator '
        f'({error.strerror})'
      ) from error
    except Error:
      raise
    except OSError as error:
      reason = error.strerror or str(error)
    except (ValueError, KeyError, TypeError):
      reason = 'what answers is no process 0 of this job'
    time.sleep(_RETRY)
  raise Error(
    f'process {process} cannot reach process 0 at {host}:{port} within '
    f'{wait:g} s ({reason}): see what process 0 prints'
  )


def _line(connection: socket.socket) -> bytes:
  data = b''
  while not data.endswith(b'\n') and len(data) < _LONGEST:
    if not (more := connection.recv(1024)):
      break
    data += more
  return data
