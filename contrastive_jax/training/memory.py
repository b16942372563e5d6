"""What a step needs of each device, from its compiled program: nothing runs."""

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from contrastive_jax.config import Config, Error
from contrastive_jax.data import sources
from contrastive_jax.data.split import Source, from_arrays
from contrastive_jax.models import text
from contrastive_jax.training import build, step

_SIDE = 64  # pixels, where neither config nor data say


class Needs(NamedTuple):
  """Of a step: bytes on each device, and what it takes.

  Attributes:
    parameters: that are trained.
    optimizer: its state.
    state: what else lives: moving averages, running statistics, centers.
    queue: of past embeddings, or the memory bank.
    input: the device's part of a batch.
    temporary: activations, gradients, the loss, collectives: the most at once.
    output: what is not written over the state: embeddings and metrics.
    seconds: that it took to compile here.
    operations: floating-point operations of a device; None: not known, as the
      compiler counts a loop once.
  """

  parameters: int
  optimizer: int
  state: int
  queue: int
  input: int
  temporary: int
  output: int
  seconds: float
  operations: float | None

  @property
  def total(self) -> int:
    """Bytes of a device."""
    return sum(self[:7])


def stand_in(
  config: Config, *, images: int, classes: int, channels: int
) -> Source:
  """Returns the config's data, or something of its shape if it is not here.

  Args:
    config: whole; its data.image_size counts, 64 if it is open.
    images: of the training split, if the data is not here.
    classes: likewise; 0: no labels.
    channels: likewise.

  Raises:
    Error: the data is text, or has texts, and is not here: how many tokens
      there are follows from it.
  """
  try:
    return sources.load(config.data.source)
  except (Error, OSError) as error:
    if config.text_encoder.name or config.encoder.name in text.ENCODERS:
      raise Error(
        f'{error}; without its texts it is not known how many tokens there '
        'are: a small table will do'
      ) from error
    side = config.data.image_size or _SIDE
    pixels = np.zeros((2, side, side, channels), np.uint8)
    names = tuple(map(str, range(classes))) or None
    labels = np.arange(2) if classes else None
    split = from_arrays(f'{images:,} images', pixels, labels, names)
    if classes:
      labels = np.arange(images, dtype=np.int32) % classes
    split = dataclasses.replace(split, size=images, labels=labels)
    return Source(split.name, split, None)


def needs(config: Config, source: Source, mesh: jax.sharding.Mesh) -> Needs:
  """Compiles a step, and says what it needs.

  Args:
    config: whole.
    source: of `stand_in`, or any other.
    mesh: of the devices; their kind is what is compiled for.

  Raises:
    Error: the config makes no sense, or this device's compiler does not say.
  """
  job = build.build(config, mesh, source)
  state = build.state_shapes(job)
  batch = batch_shapes(job)
  began = time.perf_counter()
  compiled = build.global_step(job, donate=True).lower(state, batch).compile()
  seconds = time.perf_counter() - began
  memory = compiled.memory_analysis()
  if memory is None:
    raise Error(f'the compiler for {_kind(mesh)} does not say what it needs')
  cost = compiled.cost_analysis() or {}
  held = state.model_state
  queue = {k: v for k, v in held.items() if k in ('queue', 'bank')}
  return Needs(
    parameters=_bytes(state.params),
    optimizer=_bytes(state.opt_state),
    state=_bytes(held) - _bytes(queue),
    queue=_bytes(queue),
    input=_bytes(batch),
    temporary=memory.temp_size_in_bytes,
    output=memory.output_size_in_bytes - memory.alias_size_in_bytes,
    seconds=seconds,
    operations=None if config.microbatch else cost.get('flops'),
  )


def largest(
  config: Config,
  source: Source,
  mesh: jax.sharding.Mesh,
  field: str,
  memory: float,
) -> tuple[int, Needs] | None:
  """Finds the largest power of two that fits, and compiles it to be sure.

  Args:
    config: whole.
    source: see `needs`.
    mesh: likewise.
    field: 'batch_size' or 'microbatch'. The latter at the config's batch.
    memory: bytes of a device.

  Returns:
    The number and what it needs; None: the smallest does not fit.

  Raises:
    Error: what the config says of the smallest ones, if it takes none.
  """
  numbers = list(_numbers(config, mesh, field))
  taken, refusal = [], None
  for number in numbers:  # two are enough to know what an image takes
    try:
      taken.append((number, needs(_with(config, field, number), source, mesh)))
    except Error as error:
      refusal = error
    if len(taken) == 2:
      break
  if not taken and refusal:
    raise refusal
  if len(taken) == 2:
    (a, small), (b, more) = taken
    slope = (more.total - small.total) / (b - a)
    fitting = a + max(0, memory - small.total) / max(slope, 1e-9)
    for number in reversed([n for n in numbers if b < n <= fitting]):
      try:
        found = needs(_with(config, field, number), source, mesh)
      except Error:
        continue  # a queue that it does not divide, for one
      taken.append((number, found))
      if found.total <= memory:
        break
  fit = [pair for pair in taken if pair[1].total <= memory]
  return max(fit, key=lambda pair: pair[0]) if fit else None


def _numbers(config, mesh, field) -> Iterator[int]:
  number, most = 1, 2**20
  if field == 'batch_size':
    # Smaller ones are no batch for a loss over negatives, or a norm in groups.
    number = mesh.size * max(1, 32 // mesh.size)
  else:
    most = config.batch_size // mesh.size
  while number <= most:
    yield number
    number *= 2


def _with(config: Config, field: str, number: int) -> Config:
  config = ml_collections.ConfigDict(config.to_dict())
  config[field] = number
  return config


def batch_shapes(job: build.Job) -> Any:
  """Returns the shapes of a whole batch, from one of two images.

  Args:
    job: whose data has at least two.
  """
  split = job.source.train
  batches = job.modality.train_batches(
    dataclasses.replace(split, size=min(split.size, 2)),
    batch_size=2,
    seed=0,
    start_step=0,
    process_index=0,
    process_count=1,
  )
  rows = next(batches)
  batches.close()
  sharding = jax.sharding.NamedSharding(
    job.mesh, jax.sharding.PartitionSpec(step.AXIS)
  )
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (job.run.batch_size, *np.shape(x)[1:]), x.dtype, sharding=sharding
    ),
    rows,
  )


def _bytes(tree: Any) -> int:
  """Of a device's part of arrays, or of their shapes; keys are left out."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      shape = leaf.sharding.shard_shape(leaf.shape)
      total += math.prod(shape) * leaf.dtype.itemsize
  return total


def _kind(mesh: jax.sharding.Mesh) -> str:
  return mesh.devices.flat[0].device_kind
