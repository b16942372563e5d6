"""What `contrastive_jax.doctor` tries out: gradients, repetition, speed."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from contrastive_jax.config import Config, Error
from contrastive_jax.training import build, parity, step

# Images of a batch whose gradients are compared, and for larger images.
_ROWS, _ROWS_LARGE, _LARGE = 64, 16, 96
# Rounding is below; a mistake above, and with every seed. Between them lie
# activations that rounding puts on the other side of a ReLU's kink.
_BOUND, _SEEDS = 1e-3, 3
# Of what is timed: at least so many steps and seconds.
_STEPS, _SECONDS = 3, 3.0

Line = tuple[str, str]


def gradients(
  job: build.Job, here: Sequence[Any], simulated: Sequence[Any]
) -> Iterator[Line]:
  """Compares the gradient on several devices with that on one.

  In float32, of a small batch. Where it differs by more than rounding, other
  batches are tried: a jump at a ReLU's kink is gone then, a mistake is not.

  Args:
    job: whose config and data.
    here: the devices that there are.
    simulated: devices of the CPU.

  Yields:
    A line for either.
  """
  small = _small(job)
  yield from _compared(
    lambda devices, seed: _error(job, small, devices, seed),
    f'gradient of {job.config.objective.name}, {small.batch_size} '
    f'{job.modality.plural}',
    here,
    simulated,
  )


def loss_alone(
  name: str,
  loss: Callable[..., Any],
  here: Sequence[Any],
  simulated: Sequence[Any],
) -> Iterator[Line]:
  """Compares the gradient of a loss of two views' embeddings, likewise.

  Args:
    name: for the line.
    loss: see `parity.error_of_loss`.
    here: the devices that there are.
    simulated: devices of the CPU.

  Yields:
    A line for either.
  """
  yield from _compared(
    lambda devices, seed: parity.error_of_loss(
      loss, step.make_mesh(devices), seed
    ),
    f'gradient of {name}',
    here,
    simulated,
  )


def _compared(error, what: str, here, simulated) -> Iterator[Line]:
  tried = {}
  if here[0].platform != 'cpu':
    tried[f'{len(here)} {here[0].platform} devices'] = here
  tried[f'{len(simulated)} simulated devices'] = simulated
  for name, devices in tried.items():
    if len(devices) == 1:
      continue
    errors = []
    try:
      for seed in range(_SEEDS):
        errors.append(error(devices, seed))
        if errors[-1] < _BOUND:
          break
    except Error as problem:
      yield '-', f'{what}, on {name}: not tried, {problem}'
      continue
    if min(errors) < _BOUND:
      yield 'ok', f'{what}: on {name} that of one, to {min(errors):.1e}'
    else:
      yield (
        'wrong',
        f'{what}: on {name} it differs from that of one by {min(errors):.2g} '
        'of its length: is every mean, and every negative, of all replicas?',
      )


def repeats(job: build.Job) -> Iterator[Line]:
  """Says whether a step gives the same bits twice.

  Args:
    job: on the devices that there are.

  Yields:
    One line.
  """
  run, batch = _step(job), build.first_batch(job)
  first, second = (
    jax.device_get(run(build.init_state(job), batch)[0][0].params)
    for _ in range(2)
  )
  same = all(
    np.array_equal(a, b)
    for a, b in zip(
      jax.tree.leaves(first), jax.tree.leaves(second), strict=True
    )
  )
  if same:
    yield 'ok', 'a step repeats itself to the bit, so a run resumes to the bit'
  else:
    yield (
      'wrong',
      'a step does not repeat itself to the bit: on a GPU, set '
      'XLA_FLAGS=--xla_gpu_deterministic_ops=true',
    )


def speeds(job: build.Job) -> Iterator[Line]:
  """Says whether the input keeps up with the step.

  Args:
    job: on the devices that there are.

  Yields:
    One line.
  """
  batches = build.train_batches(job, 0)
  batch = next(batches)
  loaded = _timed(lambda: next(batches))
  batches.close()
  run, state = _step(job), build.init_state(job)

  def once():
    nonlocal state
    (state, metrics), _ = run(state, batch)
    jax.block_until_ready(metrics)

  once()  # compiles
  stepped = _timed(once)
  read, trained = (job.run.batch_size / x for x in (loaded, stepped))
  sentence = f'input {read:,.0f} {job.modality.plural}/s, step {trained:,.0f}'
  if loaded <= stepped:
    yield 'ok', f'{sentence}: the input keeps up'
  else:
    yield (
      'wrong',
      f'{sentence}: the devices wait {1 - stepped / loaded:.0%} of the time. '
      'More cores help, smaller files, data.antialias=False, or '
      'data.interpolation=bilinear',
    )


def _timed(call: Callable[[], Any]) -> float:
  began, count = time.perf_counter(), 0
  while count < _STEPS or time.perf_counter() - began < _SECONDS:
    call()
    count += 1
  return (time.perf_counter() - began) / count


def _step(job: build.Job) -> Any:
  return build.train_step(job, donate=False)


def _small(job: build.Job) -> Config:
  config = job.config.copy_and_resolve_references()
  large = max(job.run.input_shape[:2]) > _LARGE
  rows = _ROWS_LARGE if large else _ROWS
  if config.batch_size > rows:
    config.batch_size, config.microbatch = rows, 0
  config.encoder.dtype = config.text_encoder.dtype = 'float32'
  if 'slices' in config.objective:
    # Sorted values that are equal but for the last bit change places: the
    # fewer, the fewer.
    config.objective.slices = min(config.objective.slices, 64)
  return config


def _error(job, config: Config, devices, seed: int) -> float:
  config.seed = job.config.seed + seed
  with jax.default_matmul_precision('highest'):
    one, several = (
      parity.gradient_on(config, n, source=job.source, among=devices)[0]
      for n in (1, len(devices))
    )
  return max(parity.relative_errors(several, one))
