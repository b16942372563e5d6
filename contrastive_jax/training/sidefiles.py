"""The small files of a work folder: read whatever stands in them."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from contrastive_jax.config import Error

# What a run writes beside its checkpoints.
_WRITTEN = (
  'config.json',
  'parameters.txt',
  'metrics.jsonl',
  'start.json',
  'tracking.json',
  'summary.json',
  'unreadable.json',
)
# What a full disk is called by the system, by tensorstore, and by a quota.
_FULL = ('No space left', 'RESOURCE_EXHAUSTED', 'Disk quota exceeded')
_BLOCK = 1 << 16  # bytes that are read at a time
_LONGEST_LINE = 1 << 24


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """Returns the JSON object in a file.

  Args:
    path: of the file.

  Raises:
    Error: something else is in it, or it cannot be read.
  """
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(value, dict):
      raise ValueError(f'it holds {type(value).__name__}, no JSON object')
    return value
  except (OSError, ValueError, RecursionError) as error:
    raise Error(f'{path} is damaged ({error})') from error


def check(workdir: pathlib.Path) -> None:
  """Refuses a folder in which a run could not write at its end.

  Args:
    workdir: need not exist.

  Raises:
    Error: a file in it is none, or may not be written.
  """
  for path in (workdir, *(workdir / name for name in _WRITTEN)):
    if not path.exists() and not path.is_symlink():
      continue
    if path != workdir and not path.is_file():
      raise Error(f'{path} is no file, but a run writes it: move it away')
    if not os.access(path, os.W_OK):
      raise Error(
        f'{path} cannot be written: change its rights, or use another --workdir'
      )


def atomic_write(path: str | os.PathLike, text: str) -> None:
  """Writes a text file that is never seen half-written.

  Args:
    path: the file; an older one is replaced.
    text: all of its content.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{path.name}.tmp')
  try:
    with temporary.open('w', encoding='utf-8') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except OSError as error:  # that the disk is full comes without a name
    temporary.unlink(missing_ok=True)
    raise OSError(error.errno, error.strerror, str(path)) from error


def reason(error: BaseException) -> str:
  """Returns why something could not be read or written, in a line.

  Args:
    error: of the system, tensorstore or TensorFlow, some of which say pages.
  """
  text = str(error) or repr(error)
  if any(words in text for words in _FULL):
    return 'the disk is full'
  line = text.splitlines()[0].partition(' [tensorstore_spec')[0]
  return line.rstrip('.')[:500]


def end_after(path: pathlib.Path, step: int) -> dict[str, Any]:
  """Cuts off the lines of metrics.jsonl that are of later steps.

  It is read from its end, as it may be long; lines that are no reports, such as
  the last one of a process that was killed, go with those after them.

  Args:
    path: of the file, which need not exist.
    step: of the last report that stays.

  Returns:
    That report; {} if there is none.

  Raises:
    Error: there are lines, and none of them is a report.
  """
  if not path.exists():
    return {}
  with path.open('r+b') as file:
    end = file.seek(0, os.SEEK_END)
    lines, found_any = 0, False
    for start, line in _lines_from_end(file, end):
      report = _report(line)
      found_any = found_any or bool(report)
      lines += bool(line.strip())
      if found_any and step == 0:
        break
      if report and report['step'] <= step:
        file.truncate(start + len(line))
        if not line.endswith(b'\n'):
          file.seek(0, os.SEEK_END)
          file.write(b'\n')
        return report
    if lines > 1 and not found_any:
      raise Error(
        f'{path} is damaged (no line of it is a report): move it away'
      )
    file.truncate(0)
  return {}


def _report(line: bytes) -> dict[str, Any]:
  """Returns the report of a line, {} if it is none."""
  try:
    report = json.loads(line)
    return report if type(report['step']) is int else {}
  except (ValueError, KeyError, TypeError, RecursionError):
    return {}


def _lines_from_end(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
  """Yields (where it starts, the line), the last line first."""
  start, cut = end, b''  # `cut` is what has been read of a line
  while start > 0:
    size = min(_BLOCK, start)
    start -= size
    file.seek(start)
    block = file.read(size) + cut
    place = start + len(block)
    lines = block.split(b'\n')
    lines = [line + b'\n' for line in lines[:-1]] + lines[-1:]
    whole = lines if start == 0 else lines[1:]
    for line in reversed(whole):
      place -= len(line)
      yield place, line
    cut = lines[0]
    if len(cut) > _LONGEST_LINE:
      raise Error(
        f'{file.name} is damaged (a line of {len(cut):,} bytes or more)'
      )
