"""How the learning rate follows from the config and from the step."""

import math

import optax

from contrastive_jax.config import Config, Error

# Images per update at which a linearly scaled rate equals its base.
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
    raise Error(
      f"optimizer.scaling is 'linear' or 'sqrt', not {optimizer.scaling!r}"
    )
  return rate, f'learning rate {origin} = {rate:.6g}'


def warmup_steps(optimizer: Config, images: int, batch_size: int) -> int:
  """Returns the steps of the warm-up, as SimCLR's official code counts them.

  Args:
    optimizer: the config's `optimizer`: warmup_epochs.
    images: of an epoch.
    batch_size: images a step.
  """
  return round(optimizer.warmup_epochs * images / batch_size)


def learning_rate(
  optimizer: Config, peak: float, *, warmup_steps: int, total_steps: int
) -> tuple[optax.Schedule, str]:
  """Returns step -> learning rate, and a description of its course.

  A line from warmup_start to the peak, then a cosine over all that is left of
  the run, or a tenth of the rate at each of the milestones.

  Args:
    optimizer: the config's `optimizer`.
    peak: rate at the end of the warm-up.
    warmup_steps: 0 starts at the peak. A warm-up as long as the run or longer
      is shortened to a tenth of the run.
    total_steps: steps of the run; the cosine ends there.

  Returns:
    The schedule, and for example 'warm-up 100 steps, then cosine to 0'.

  Raises:
    ValueError: unknown schedule, or a milestone that is no share of the run.

  Reference:
    SimCLR, appendix B.6; official tf2/model.py, WarmUpAndCosineDecay. Start and
    end of the cosine: swav main_swav.py; barlowtwins main.py. Steps: moco
    main_moco.py; lemniscate main.py.
  """
  warmup = f'warm-up {warmup_steps:,} steps' if warmup_steps else 'no warm-up'
  if warmup_steps >= total_steps:
    warmup_steps = total_steps // 10
    warmup = (
      f'warm-up of {optimizer.warmup_epochs:g} epochs is longer than the run: '
      f'shortened to {warmup_steps:,} steps'
    )
  start = optimizer.warmup_start * peak
  if warmup_steps and start:
    warmup += f' from {start:.6g}'

  if optimizer.schedule == 'cosine':
    decay = optax.cosine_decay_schedule(
      peak, total_steps - warmup_steps, optimizer.final_fraction
    )
    course = f'cosine to {optimizer.final_fraction * peak:.6g}'
  elif optimizer.schedule == 'linear':
    end = peak * optimizer.final_fraction
    decay = optax.linear_schedule(peak, end, max(1, total_steps - warmup_steps))
    course = f'linear to {end:.3g}'
  elif optimizer.schedule == 'step':
    if wrong := [m for m in optimizer.milestones if not 0 <= m <= 1]:
      raise Error(
        'optimizer.milestones are shares of the run, between 0 and 1, not '
        f'{wrong[0]}'
      )
    steps = [round(share * total_steps) for share in optimizer.milestones]
    decay = optax.piecewise_constant_schedule(
      peak, {step - warmup_steps: 0.1 ** steps.count(step) for step in steps}
    )
    course = ' and '.join(f'x 0.1 at step {step:,}' for step in steps)
    course = course or 'constant'
  else:
    raise Error(
      "optimizer.schedule is 'cosine', 'linear' or 'step', not "
      f'{optimizer.schedule!r}'
    )
  if warmup_steps:
    line = optax.linear_schedule(start, peak, warmup_steps)
    decay = optax.join_schedules([line, decay], [warmup_steps])
  return decay, f'{warmup}, then {course}'


def half_cosine(start: float, end: float, steps: int) -> optax.Schedule:
  """Returns step -> value: from start to end on half a cosine, then end.

  Reference:
    DINO's weight decay: dino utils.py, cosine_scheduler.
  """
  cosine = optax.cosine_decay_schedule(1.0, steps)
  return lambda step: end + (start - end) * cosine(step)
