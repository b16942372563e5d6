"""From a config to the parts of a job: source, objective, optimizer, state."""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax import keys, objectives, schedules
from contrastive_jax.config import Config, Error, check_keys
from contrastive_jax.data import (
  labels,
  modalities,
  pipeline,
  sources,
)
from contrastive_jax.data import split as split_lib
from contrastive_jax.data.modalities import Modality
from contrastive_jax.diagnostics import health
from contrastive_jax.models import encoders, microbatch
from contrastive_jax.objectives import Objective, Run
from contrastive_jax.training import optim, ranges, sizing, step, zero
from contrastive_jax.training.state import TrainState

_MOST_STEPS = 2**31 - 1  # TrainState.step is an int32


class Job(NamedTuple):
  """All that a run is made of; nothing here has touched a device yet."""

  config: Config  # resolved
  source: split_lib.Source
  objective: Objective
  modality: Modality
  run: Run
  learning_rate: optax.Schedule
  optimizer: optax.GradientTransformation
  mesh: jax.sharding.Mesh
  quiet_steps: int  # before these nothing but 'not finite' is said
  grace_steps: int  # before these it is not said to be at chance
  notes: tuple[str, ...]  # what was decided for the user, one line each
  folder: pathlib.Path | None = None  # of a run that may have begun


def build(
  config: Config,
  mesh: jax.sharding.Mesh | None = None,
  source: split_lib.Source | None = None,
  folder: pathlib.Path | None = None,
) -> Job:
  """Returns the parts of the job that a config describes.

  Args:
    config: as made by a file of configs/; it is copied.
    mesh: default: all devices.
    source: default: what config.data says.
    folder: of a run: what was fitted to its data is read from there, not fitted
      anew.

  Returns:
    The parts. Nothing is compiled yet.

  Raises:
    ValueError: the config and the data, or the config and the devices, do not
      fit together; one sentence with both numbers.
    FileNotFoundError: the data is not there.
  """
  check_keys(config)
  ranges.check(config)
  config = ml_collections.ConfigDict(config.to_dict())
  objectives.complete(config)
  mesh = step.make_mesh() if mesh is None else mesh
  devices = mesh.size
  if source is not None:
    # The run is not of what config.data said: nothing is to be read from there.
    config.data.source = source.name
  chosen: tuple[str, ...] = ()
  if sizing.is_open(config):
    source = source or _load(config)
    chosen = sizing.choose(config, source.train, sizing.devices_of(mesh))
  if config.batch_size % devices:
    raise Error(
      f'batch size {config.batch_size} is not divisible by {devices} devices'
    )
  if config.sharding == 'zero' and config.mapping == 'pmap':
    raise Error("sharding is 'zero', which takes mapping='shard_map', not pmap")
  source = labels.checked(source or _load(config))
  split = source.train
  _settle_white(config, split)
  modality = modalities.make(config, source, folder)
  steps_per_epoch = pipeline.steps_per_epoch(split, config.batch_size)
  total_steps = (
    config.epochs * steps_per_epoch if config.steps is None else config.steps
  )
  if total_steps > _MOST_STEPS:
    raise Error(
      f'the run has {total_steps:,} steps: it can have {_MOST_STEPS:,}'
    )
  run = Run(
    batch_size=config.batch_size,
    num_examples=split.size,
    num_classes=split.num_classes,
    input_shape=modality.input_shape,
    global_views=modality.global_views or len(config.augment.blur),
    local_crops=config.augment.local_crops,
    steps_per_epoch=steps_per_epoch,
    total_steps=total_steps,
    seed=config.seed,
    vocabulary=modality.vocabulary,
  )
  encoder = encoders.make(config.encoder, run)
  if config.microbatch:
    # Views are made of their rows where the encoder takes them.
    modality = modality._replace(views=modality.raw_views or modality.views)
  objective = objectives.make(
    config,
    run,
    functools.partial(
      microbatch.in_parts,
      images=config.microbatch,
      run=run,
      devices=devices,
      render=modality.render,
      examples=modality.example_views(1),
    ),
  )
  peak, origin = schedules.peak_learning_rate(
    config.optimizer, config.batch_size
  )
  warmup_steps = schedules.warmup_steps(
    config.optimizer, split.size, config.batch_size
  )
  learning_rate, course = schedules.learning_rate(
    config.optimizer, peak, warmup_steps=warmup_steps, total_steps=total_steps
  )
  notes = (
    *chosen,
    f'data {source.name}: {split.size:,} training {modality.plural}'
    + (f', {split.num_classes} classes' if split.num_classes else ', no labels')
    + f', {modality.described or " x ".join(map(str, run.input_shape))}',
    *source.notes,
    *labels.evaluation_notes(source, config.evaluation),
    *([encoder.note] if encoder.note else []),
    *objective.notes,
    f'{origin}; {course}',
    f'{total_steps:,} steps of {run.batch_size} {modality.plural}, '
    f'{steps_per_epoch:,} '
    f'steps an epoch',
    f'{devices} {mesh.devices.flat[0].platform} devices in '
    f'{jax.process_count()} processes, mapped by {config.mapping}',
    *modality.notes,
  )
  return Job(
    config=config,
    source=source,
    objective=objective,
    modality=modality,
    run=run,
    learning_rate=jax.jit(learning_rate),  # or each operation is compiled
    optimizer=optim.make_optimizer(
      config.optimizer,
      learning_rate,
      peak=peak,
      total_steps=total_steps,
      steps_per_epoch=steps_per_epoch,
    ),
    mesh=mesh,
    quiet_steps=health.quiet_steps(
      warmup_steps,
      total_steps,
      tokens=run.vocabulary > 0,
      least=objective.quiet_steps,
    ),
    grace_steps=health.grace_steps(
      total_steps,
      idle_steps=(
        warmup_steps,
        optim.frozen_steps(config.optimizer, steps_per_epoch),
      ),
      least=round(objective.grace_epochs * steps_per_epoch),
    ),
    notes=notes,
    folder=folder,
  )


def _settle_white(config: Config, split: split_lib.Split) -> None:
  """Writes the white of the images into the config, for all that follows."""
  if config.data.maximum not in (0, split.maximum):
    raise Error(
      f'data.maximum is {config.data.maximum:g}, and '
      + (
        f'the images were made with {split.maximum:g} (maximum= of from_arrays)'
        if split.maximum
        else f'{split.name} has images of 8 bits, whose white is 255'
      )
    )
  config.data.maximum = float(split.maximum)


def _load(config: Config) -> split_lib.Source:
  source = sources.load(
    config.data.source,
    background=config.data.background,
    maximum=config.data.maximum,
  )
  if config.data.held_out:
    source = split_lib.held_out(source, config.data.held_out)
  return source


def make_init(job: Job) -> Callable[[], TrainState]:
  """Returns a function that makes the state before the first step."""
  seed = job.config.seed

  def init():
    rng = keys.of(seed, keys.Purpose.INITIALIZATION)
    params, model_state = job.objective.init(rng, example_batch(job))
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      model_state=model_state,
      opt_state=job.optimizer.init(params),
      rng=keys.of(seed, keys.Purpose.STEP),
    )

  return init


def init_state(job: Job) -> TrainState:
  """Returns the state before the first step, on every device of the mesh."""
  init = make_init(job)
  places: Any = NamedSharding(job.mesh, P())
  if job.config.sharding == 'zero':
    places = zero.places(jax.eval_shape(init), job.mesh)
  return jax.jit(
    init, out_shardings=places, compiler_options=_fast_to_compile(job.mesh)
  )()


def _fast_to_compile(mesh: jax.sharding.Mesh) -> dict[str, Any] | None:
  """Returns options for a program that runs once.

  Drawing every parameter takes XLA half a minute to compile for a CPU, and a
  moment to run: at its first level it is a fifth of that, for the same bits.
  A level that is set by hand stays.
  """
  level = 'xla_backend_optimization_level'
  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  if not on_cpu or level in os.environ.get('XLA_FLAGS', ''):
    return None
  return {level: 1}


def state_shapes(job: Job) -> Any:
  """Returns shapes and shardings of `init_state`, without computing it."""
  state = jax.eval_shape(make_init(job))
  places = jax.tree.map(lambda _: NamedSharding(job.mesh, P()), state)
  if job.config.sharding == 'zero':
    places = zero.places(state, job.mesh)
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    state,
    places,
  )


def train_step(job: Job, *, donate: bool = True) -> Any:
  """Returns the job's step: (state, this process's batch) -> outputs.

  Args:
    job: the parts.
    donate: whether the state's memory is reused; it may not be read again.

  Returns:
    As `step.mapped`.
  """
  parts = job.objective, job.optimizer, job.modality
  if job.config.sharding == 'replicated':
    return step.mapped(
      step.make_train_step(*parts), job.mesh, job.config.mapping, donate=donate
    )
  compiled = global_step(job, donate=donate)
  return lambda state, batch: compiled(state, step.shard(batch, job.mesh))


def global_step(job: Job, *, donate: bool) -> Any:
  """Returns the job's step as a jitted function of global arrays.

  Args:
    job: the parts, of any `sharding`, mapped by shard_map.
    donate: see `train_step`.

  Returns:
    A function that can be lowered.
  """
  parts = job.objective, job.optimizer, job.modality
  if job.config.sharding == 'replicated':
    train_step = step.make_train_step(*parts)
    return step.over_shards(train_step, job.mesh, donate=donate)
  return jax.jit(
    zero.train_step(*parts, job.mesh), donate_argnums=(0,) if donate else ()
  )


def untrained_state(job: Job) -> TrainState:
  """Returns random weights: what a trained encoder is compared with.

  Not the state before the first step: with last scales that begin at 0 a
  residual block passes on its shortcut alone, and a network of shortcuts sees
  a fraction of the image's positions. Here all scales are 1.
  """
  # By the program that drew the state before the first step, which is compiled.
  state = zero.whole(init_state(job))

  def at_one(path: Any, leaf: jax.Array) -> jax.Array:
    if getattr(path[-1], 'key', '') != 'scale' or np.any(np.asarray(leaf)):
      return leaf
    return jax.device_put(np.ones(leaf.shape, leaf.dtype), leaf.sharding)

  return state.replace(
    params=jax.tree.map_with_path(at_one, state.params),
    model_state=jax.tree.map_with_path(at_one, state.model_state),
  )


def example_batch(job: Job, rows: int = 2) -> dict[str, Any]:
  """Returns zeros of the shapes that an objective's batch has."""
  return {
    'views': job.modality.example_views(rows),
    'label': jnp.zeros((rows,), jnp.int32),
    'id': jnp.zeros((rows,), jnp.int32),
    'epoch': jnp.zeros((rows,), jnp.int32),
    'places': (jnp.ones((rows, 5)),) * len(job.modality.example_views(rows)),
  }


def train_batches(job: Job, start_step: int) -> modalities.TrainBatches:
  """Returns this process's batches from a step on."""
  config = job.config
  return job.modality.train_batches(
    job.source.train,
    batch_size=config.batch_size,
    seed=config.seed,
    start_step=start_step,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )


def first_batch(job: Job) -> dict[str, Any]:
  """Returns this process's part of the run's first batch."""
  batches = train_batches(job, 0)
  batch = next(batches)
  batches.close()
  return batch
