"""metrics.jsonl and TensorBoard's events: each step once, whatever happened."""

import contextlib
import json
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import jax
from clu import metric_writers
from google.protobuf.message import DecodeError
from tensorboard.compat.proto import event_pb2

from contrastive_jax.config import Error
from contrastive_jax.training import loggers, sidefiles


class Records:
  """Where reports go, written by process 0."""

  def __init__(self, workdir: pathlib.Path, start_step: int, config: Any):
    """Opens both; what a killed run wrote after start_step is dropped.

    Args:
      workdir: of the run.
      start_step: of the checkpoint that it continues from; or 0.
      config: the whole config, for `log.to`.

    Raises:
      Error: metrics.jsonl is damaged.
    """
    self.last: dict[str, Any] = {}
    self._path = workdir / 'metrics.jsonl'
    self._main = jax.process_index() == 0
    if self._main:
      self.last = sidefiles.end_after(self._path, start_step)
      for path in sorted(workdir.glob('events.out.tfevents*')):
        # Of a run from its beginning step 0 goes, too.
        _end_events_after(path, start_step or -1)
    self._logger = loggers.opened(config, workdir) if self._main else None
    self._writer = metric_writers.create_default_writer(
      workdir, just_logging=not self._main
    )

  def write(self, report: dict[str, Any]) -> None:
    """Appends a report.

    Raises:
      Error: the disk is full, or the like.
    """
    try:
      if self._main:
        with self._path.open('a', encoding='utf-8') as file:
          file.write(json.dumps(report) + '\n')
          file.flush()
          os.fsync(file.fileno())
      scalars = {k: v for k, v in report.items() if isinstance(v, int | float)}
      self._writer.write_scalars(report['step'], scalars)
      # What a checkpoint follows is on disk before it.
      self._writer.flush()
    except Exception as error:  # the system's, TensorFlow's
      raise Error(
        f'{self._path} or the events beside it cannot be written '
        f'({sidefiles.reason(error)}): the same command continues the run'
      ) from error
    if self._logger is not None:
      self._logger.write(report['step'], scalars)

  def close(self) -> None:
    """Waits until all is on disk."""
    if self._logger is not None:
      self._logger.close()
    # What `write` could not is known already.
    with contextlib.suppress(Exception):
      self._writer.close()


def _end_events_after(path: pathlib.Path, step: int) -> None:
  """Cuts off the events of later steps, and a file that has no others."""
  if not path.is_file():
    return
  with path.open('rb') as file:
    kept, end = 0, 0
    for end, event in _events(file):
      if event.step > step:
        break
      # The first event names the version of the file.
      kept = end if event.HasField('summary') else kept
    else:
      if kept and end == path.stat().st_size:
        return
  if kept:
    os.truncate(path, kept)
  else:
    path.unlink()


def _events(file: BinaryIO) -> Iterator[tuple[int, event_pb2.Event]]:
  """Yields (where it ends, the event), as far as they are whole.

  A record of TensorFlow is its length, 8 bytes, a checksum of that, 4 bytes,
  the event, and its checksum.
  """
  size = os.fstat(file.fileno()).st_size
  while len(head := file.read(12)) == 12:
    (length,) = struct.unpack('<Q', head[:8])
    if file.tell() + length + 4 > size:
      return
    data = file.read(length + 4)
    try:
      event = event_pb2.Event.FromString(data[:-4])
    except DecodeError:
      return
    yield file.tell(), event
