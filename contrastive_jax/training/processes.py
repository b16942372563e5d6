"""Several processes: what one of them cannot do, all of them say."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from contrastive_jax.config import Error, flat

# What belongs to the machine, or is decided by `run.data`.
_OWN = ('data.source', 'run.sha256')


@contextlib.contextmanager
def together() -> Iterator[None]:
  """What fails within on one process ends all of them.

  They would wait for it otherwise, for minutes, and then say nothing of why.
  There is nothing within that waits for the other processes.

  Raises:
    Error: what another process has said.
  """
  if jax.process_count() == 1:
    yield
    return
  mine = None
  try:
    yield
  except Exception as error:
    mine = error
  said = '' if mine is None else str(mine) or repr(mine)
  everyone = gather(said)
  if mine is not None:
    raise mine
  for number, sentence in enumerate(everyone):
    if sentence:
      raise Error(f'process {number} has ended: {sentence}')


def gather(text: str) -> list[str]:
  """Returns the texts of all processes.

  Args:
    text: of this one.
  """
  data = np.frombuffer(text.encode('utf-8', 'backslashreplace'), np.uint8)
  if jax.process_count() == 1:
    return [text]
  # The gather wants arrays of one length.
  sizes = multihost_utils.process_allgather(np.asarray(len(data)))
  padded = np.zeros(max(1, np.max(sizes)), np.uint8)
  padded[: len(data)] = data
  rows = multihost_utils.process_allgather(padded)
  return [
    row[:size].tobytes().decode('utf-8')
    for row, size in zip(rows, sizes, strict=True)
  ]


def check_same(configs: list[Mapping[str, Any]]) -> None:
  """Refuses processes that were started with different configs or data.

  Args:
    configs: of each, as in config.json.

  Raises:
    Error: the first difference.
  """
  fields = [flat(config) for config in configs]
  for number, other in enumerate(fields[1:], 1):
    for key in sorted(fields[0].keys() | other.keys()):
      here, there = fields[0].get(key), other.get(key)
      if here == there or key in _OWN:
        continue
      if key == 'run.data':
        raise Error(
          f'process {number} has other training images than process 0: their '
          'names, sizes or labels are not the same'
        )
      raise Error(
        f'process {number} has {key}={there}, process 0 has {key}={here}: '
        'start all of them with the same config, on the same data'
      )
