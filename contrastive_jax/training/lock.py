"""A work folder is one run's at a time: two would delete each other's state."""

import errno
import fcntl
import os
import pathlib
import socket
from typing import IO

import jax

from contrastive_jax.config import Error
from contrastive_jax.training import progress

_NAME = 'run.lock'
# Of file systems that were mounted without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Lock:
  """Held until the `with` is left, or the process ends, however it ends.

  By `flock`, which the kernel lets go of with the process, and which Linux
  takes on NFS for all machines that mount it. Readers, such as evaluations and
  reports, need no lock.
  """

  def __init__(self, workdir: pathlib.Path):
    """Takes nothing yet.

    Args:
      workdir: of the run.
    """
    self._workdir = workdir
    self._file: IO[str] | None = None

  def __enter__(self) -> 'Lock':
    return self

  def __exit__(self, *_) -> None:
    if self._file is not None:
      self._file.close()
      self._file = None

  def take(self) -> None:
    """Takes the folder by process 0, and makes it; again, does nothing.

    Raises:
      Error: another process has it.
    """
    if self._file is not None or jax.process_index():
      return
    self._workdir.mkdir(parents=True, exist_ok=True)
    path = self._workdir / _NAME
    # For writing: NFS locks no other. Not 'w': the holder's name stands there.
    file = path.open('a+', encoding='utf-8', errors='replace')
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      holder = file.read(200).strip() or 'another process'
      file.close()
      raise Error(
        f'{self._workdir} is being written by {holder}: wait until it has '
        'ended, or use another --workdir'
      ) from None
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        file.close()
        raise
      progress.say(
        f'warning: {self._workdir} is on a file system without locks: start no '
        "second run in it, they would delete each other's checkpoints"
      )
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    self._file = file
