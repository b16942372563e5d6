"""Vectors on disk, a chunk at a time; a process that was killed goes on there.

A folder of flat files, to which chunks are appended, and progress.json, which
says how much of them counts: it is replaced as a whole after each chunk, and
what stands behind it in the files is cut off before the next one.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.training import sidefiles

_PROGRESS = 'progress.json'


class Store:
  """See the module.

  Attributes:
    done: how many images are done with, those that were unreadable included.
    rows: how many vectors there are.
    unreadable: numbers of the images that have none.
  """

  def __init__(
    self, folder: str | pathlib.Path, request: dict[str, Any]
  ) -> None:
    """Opens a store, or begins one.

    Args:
      folder: of the store alone.
      request: what the vectors are of, as JSON has it.

    Raises:
      Error: the folder is of another request, or of something else.
    """
    self._folder = pathlib.Path(folder)
    self._request = request
    self.done, self.rows, self.unreadable = 0, 0, []
    self._dim = 0
    self._lock: int | None = None
    path = self._folder / _PROGRESS
    if path.exists():
      self._resume(sidefiles.read_object(path))
    elif self._folder.exists() and any(self._folder.glob('[!.]*')):
      raise Error(
        f'{self._folder} is there, and no beginning of an earlier call: '
        'delete it, or name another --output'
      )

  def _resume(self, progress: dict[str, Any]) -> None:
    before = progress.get('request')
    if before != self._request:
      changed = [
        f'{key} {_short(before.get(key))}, now {_short(value)}'
        for key, value in self._request.items()
        if isinstance(before, dict) and before.get(key) != value
      ]
      raise Error(
        f'{self._folder} is the beginning of another call '
        f'({"; ".join(changed) or "damaged"}): delete it, or name another '
        '--output'
      )
    self.done, self.rows = progress['done'], progress['rows']
    self.unreadable, self._dim = progress['unreadable'], progress['dim']
    for name, size in self._sizes().items():
      path = self._folder / name
      if self.rows and not (path.exists() and path.stat().st_size >= size):
        raise Error(f'{path} is damaged: delete {self._folder}')
      if path.exists():
        os.truncate(path, size)

  def append(
    self,
    vectors: np.ndarray,
    labels: np.ndarray,
    numbers: np.ndarray,
    *,
    images: int,
    unreadable: list[int],
  ) -> None:
    """Adds a chunk, as a whole or not at all.

    Args:
      vectors: float32 [n, d].
      labels: int32 [n].
      numbers: int32 [n], of the images.
      images: that are done with by this, at least n.
      unreadable: numbers of those without a vector.
    """
    if self._lock is None:
      self._take()
    self._dim = vectors.shape[1]
    arrays = (vectors, np.float32), (labels, np.int32), (numbers, np.int32)
    for name, (array, dtype) in zip(self._sizes(), arrays, strict=True):
      with (self._folder / name).open('ab') as file:
        file.write(np.ascontiguousarray(array, dtype).data)
        file.flush()
        os.fsync(file.fileno())
    self.done += images
    self.rows += len(vectors)
    self.unreadable += unreadable
    self._write_progress()

  def _take(self) -> None:
    """Makes the folder ours, before the first chunk that is added."""
    self._folder.mkdir(parents=True, exist_ok=True)
    self._lock = os.open(self._folder / '.lock', os.O_RDWR | os.O_CREAT)
    taken = False
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      taken = True
    except OSError:
      pass  # a file system without locks
    path = self._folder / _PROGRESS
    done = sidefiles.read_object(path)['done'] if path.exists() else 0
    if taken or done != self.done:
      self.close()
      raise Error(
        f'{self._folder} is being written by another process: wait until it '
        'has ended, or name another --output'
      )
    self._write_progress()  # so that the folder is known to be ours

  def close(self) -> None:
    """Leaves the folder to others."""
    if self._lock is not None:
      with contextlib.suppress(OSError):
        os.close(self._lock)
      self._lock = None

  def _write_progress(self) -> None:
    progress = {
      'done': self.done,
      'rows': self.rows,
      'dim': self._dim,
      'unreadable': self.unreadable,
      'request': self._request,
    }
    sidefiles.atomic_write(self._folder / _PROGRESS, json.dumps(progress))

  def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns vectors, labels and numbers; the vectors stay on the disk."""
    if not self.rows:
      empty = np.zeros(0, np.int32)
      return np.zeros((0, self._dim), np.float32), empty, empty
    vectors, labels, numbers = self._sizes()
    shape = self.rows, self._dim
    return (
      np.memmap(self._folder / vectors, np.float32, 'r', shape=shape),
      np.fromfile(self._folder / labels, np.int32),
      np.fromfile(self._folder / numbers, np.int32),
    )

  def remove(self) -> None:
    """Deletes the folder: what it was for is done."""
    self.close()
    shutil.rmtree(self._folder, ignore_errors=True)

  def _sizes(self) -> dict[str, int]:
    """The files, and how many bytes of each count."""
    return {
      'vectors.float32': 4 * self.rows * self._dim,
      'labels.int32': 4 * self.rows,
      'numbers.int32': 4 * self.rows,
    }


def _short(value: Any) -> str:
  text = str(value)
  return text if len(text) <= 60 else f'{text[:20]}...'
