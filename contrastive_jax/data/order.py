"""Which examples are in which batch: it follows from the seed and the step."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Order(NamedTuple):
  """Which rows of which batches: [first, first + local) of every batch.

  An epoch has `steps` batches of `batch_size`, in an order that follows from
  `seed`; reading begins with batch `start_step`.
  """

  batch_size: int
  steps: int
  first: int
  local: int
  seed: int
  start_step: int


def batches(size: int, order: Order) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (epoch, ids int32 [batch_size]) of whole batches, without end.

  Args:
    size: number of examples; each is in an epoch once at most.
    order: `first` and `local` are not used.
  """
  epoch, ids, step = -1, np.zeros(0, np.int32), order.start_step
  while True:
    if step // order.steps != epoch:
      epoch = step // order.steps
      ids = np.random.default_rng([order.seed, epoch]).permutation(size)
    start = step % order.steps * order.batch_size
    yield epoch, ids[start : start + order.batch_size].astype(np.int32)
    step += 1
