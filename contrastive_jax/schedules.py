"""How the learning rate follows from the config and from the step."""

import math

import optax

from contrastive_jax.config import Config

# Updates per image at which a linearly scaled rate equals its base.
_LINEAR_REFERENCE = 256


def peak_learning_rate(optimizer: Config, batch_size: int) -> tuple[float, str]:
  """Returns the learning rate after warm-up, and the sum that it came from.

  Args:
    optimizer: the config's `optimizer`: base_learning_rate and scaling.
    batch_size: images a step over all devices of all hosts.

  Returns:
    The rate, and for example 'learning rate 0.3 x 512/256 = 0.6'.

  Raises:
    ValueError: unknown scaling.

  Reference:
    SimCLR's official run.py: linear .3 x B/256, or .075 x sqrt(B).
  """
  base = optimizer.base_learning_rate
  if optimizer.scaling == 'linear':
    rate = base * batch_size / _LINEAR_REFERENCE
    origin = f'{base:g} x {batch_size}/{_LINEAR_REFERENCE}'
  elif optimizer.scaling == 'sqrt':
    rate = base * math.sqrt(batch_size)
    origin = f'{base:g} x sqrt({batch_size})'
  else:
    raise ValueError(
      f"optimizer.scaling is 'linear' or 'sqrt', not {optimizer.scaling!r}"
    )
  return rate, f'learning rate {origin} = {rate:.6g}'


def warmup_cosine(
  peak: float, *, warmup_steps: int, total_steps: int
) -> optax.Schedule:
  """Returns step -> learning rate: a line from 0, then a cosine to 0.

  Args:
    peak: rate at the end of the warm-up.
    warmup_steps: 0 starts at the peak. No more than total_steps of them count.
    total_steps: where the cosine reaches 0.

  Returns:
    The schedule.

  Reference:
    SimCLR, appendix B.6; official tf2/model.py, WarmUpAndCosineDecay.
  """
  warmup_steps = min(warmup_steps, total_steps)
  if warmup_steps == 0:
    return optax.cosine_decay_schedule(peak, total_steps)
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, peak, warmup_steps),
      optax.cosine_decay_schedule(peak, max(total_steps - warmup_steps, 1)),
    ],
    [warmup_steps],
  )
