"""Two sides of a comparison, timed in turn in one process."""

import statistics
import time
from collections.abc import Callable

import jax

from contrastive_jax.training import build, step


def stepper(job: build.Job) -> Callable[[], object]:
  """Returns a call that takes one step of the job, on its first batch."""
  train_step = step.mapped(
    step.make_train_step(job.objective, job.optimizer, job.modality), job.mesh
  )
  batch, state = build.first_batch(job), build.init_state(job)

  def take_step():
    nonlocal state
    (state, metrics), _ = train_step(state, batch)
    return metrics

  return take_step


def seconds(fn: Callable[[], object]) -> float:
  """Returns how long one call takes, results included."""
  began = time.perf_counter()
  jax.block_until_ready(fn())
  return time.perf_counter() - began


def compare(
  name: str,
  ours: Callable[[], object],
  theirs: Callable[[], object],
  *,
  items: int,
  rounds: int = 7,
  target: float | None = None,
) -> float:
  """Prints the throughput of both sides and the median of their ratios.

  Args:
    name: what is compared.
    ours: one call of it handles `items` items.
    theirs: likewise.
    items: per call.
    rounds: A B A B ..., after one call of each that is not counted.
    target: the ratio that is claimed, if one is.

  Returns:
    The ratio, throughput of ours over that of theirs.
  """
  seconds(ours)
  seconds(theirs)
  times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
  ratio = statistics.median(b / a for a, b in times)
  for label, side in (('ours', 0), ('theirs', 1)):
    rate = items / statistics.median(pair[side] for pair in times)
    print(f'{name}, {label}: {rate:,.4g} a second')
  claim = '' if target is None else f' (claimed: at least {target})'
  print(f'{name}: ratio {ratio:.3f}{claim}')
  return ratio
