"""Graphs that turn example ids into batches; the readers put them together."""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.data import decode
from contrastive_jax.data.tensorflow_host import no_autograph, tf

# How many examples in a row may be unreadable before a run gives up.
_TRIES = 1000
# Files of a stream that are read side by side.
_CYCLE = 16


class Order(NamedTuple):
  """Which rows of which batches: [first, first + local) of every batch.

  An epoch has `steps` batches of `batch_size`, in an order that follows from
  `seed`; reading begins with batch `start_step`. A stream is shuffled by a
  buffer of `shuffle_buffer` examples.
  """

  batch_size: int
  steps: int
  first: int
  local: int
  seed: int
  start_step: int
  shuffle_buffer: int


def ids(size: int, order: Order) -> tf.data.Dataset:
  """Returns endless batches of (id, epoch), int32 [local] each."""

  def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    epoch, ids, step = -1, np.zeros(0, np.int32), order.start_step
    while True:
      if step // order.steps != epoch:
        epoch = step // order.steps
        ids = np.random.default_rng([order.seed, epoch]).permutation(size)
      start = step % order.steps * order.batch_size + order.first
      batch = ids[start : start + order.local].astype(np.int32)
      yield batch, np.full_like(batch, epoch)
      step += 1

  spec = tf.TensorSpec([order.local], tf.int32)
  return tf.data.Dataset.from_generator(generate, output_signature=(spec, spec))


def given_ids(ids: np.ndarray) -> tf.data.Dataset:
  """Returns (id, epoch 0) of the given ids, one after the other."""
  return tf.data.Dataset.from_tensor_slices((ids, np.zeros_like(ids)))


@no_autograph
def stream_rows(reader: Any, order: Order) -> tf.data.Dataset:
  """Returns endless (id, epoch, encoded, label): this process's rows.

  The order of the files and a shuffle buffer follow from (seed, epoch). Rows
  of others, and those before `start_step`, are read but not decoded: every
  process reads all bytes, and a resume reads its epoch again up to its place.
  """

  def generate() -> Iterator[tuple]:
    epoch, skip = divmod(order.start_step, order.steps)
    while True:
      rng = np.random.default_rng([order.seed, epoch])
      shards = rng.permutation(reader.shards)
      yield epoch, shards, rng.integers(2**62), skip * order.batch_size
      epoch, skip = epoch + 1, 0

  def one_epoch(epoch, shards, shuffle_seed, skip):
    dataset = reader.stream(shards, _CYCLE)
    dataset = dataset.shuffle(
      order.shuffle_buffer, shuffle_seed, reshuffle_each_iteration=False
    )
    dataset = dataset.take(order.steps * order.batch_size)
    dataset = dataset.skip(skip).enumerate()
    row = order.first + np.arange(order.local)
    mine = tf.constant(np.isin(np.arange(order.batch_size), row))
    dataset = dataset.filter(lambda n, _: mine[n % order.batch_size])
    return dataset.map(lambda _, x: (x[0], tf.cast(epoch, tf.int32), *x[1:]))

  scalar = tf.TensorSpec([], tf.int64)
  dataset: Any = tf.data.Dataset.from_generator(
    generate,
    output_signature=(scalar, tf.TensorSpec([None], tf.int64), scalar, scalar),
  )
  return dataset.flat_map(one_epoch)


@no_autograph
def chosen_rows(
  dataset: tf.data.Dataset, ids: np.ndarray, size: int
) -> tf.data.Dataset:
  """Returns (id, epoch 0, encoded, label) of some of a stream's examples."""
  mine = tf.constant(np.isin(np.arange(size), ids))
  dataset = dataset.filter(lambda i, *_: mine[i])
  return dataset.map(lambda i, *rest: (i, 0, *rest))


@functools.lru_cache(maxsize=4)
def strides(size: int) -> np.ndarray:
  """Returns int32 [size]: the step in which an id's stand-ins are looked for.

  In the place of an unreadable id stands the first readable one of id + step,
  id + 2 step, ... (modulo size). The steps, one an id, are drawn by a constant
  seed from those that lead to every id, so that a run of unreadable images is
  replaced by images from all over, and always by the same.

  Args:
    size: number of ids.
  """
  steps = np.arange(1, max(size, 2), dtype=np.int32)
  steps = steps[np.gcd(steps, size) == 1]
  return np.random.default_rng(0).choice(steps, size)


def passed_over(size: int, wanted: int, used: int) -> np.ndarray:
  """Returns the ids that were tried before `used`, see `strides`."""
  step = int(strides(size)[wanted])
  tried = (wanted + step * np.arange(min(_TRIES, size))) % size
  return tried[: np.flatnonzero(tried == used)[0]]


def read_of(read: Callable, ids: np.ndarray) -> Callable:
  """Returns `RandomAccess.read` of some ids, numbered anew."""
  table = tf.constant(ids, tf.int32)
  return lambda i: read(table[i])


def stream_of(stream: Callable, size: int, ids: np.ndarray) -> Callable:
  """Returns `Stream.stream` of some of `size` ids, numbered anew."""
  numbers = np.full(size, -1)
  numbers[ids] = np.arange(len(ids))
  table = tf.constant(numbers, tf.int32)

  @no_autograph
  def chosen(order, cycle):
    dataset = stream(order, cycle).filter(lambda i, *_: table[i] >= 0)
    return dataset.map(lambda i, *rest: (table[i], *rest))

  return chosen


def in_memory(dataset: tf.data.Dataset) -> tuple[Callable, int]:
  """Returns `RandomAccess.read` of a stream's examples, and their number."""
  encoded, labels = (
    tf.stack(part) for part in zip(*(row[1:] for row in dataset), strict=True)
  )
  return (lambda i: (encoded[i], labels[i])), len(labels)


def decoded_image(reader: Any, example_id: int) -> np.ndarray:
  """Returns one image as it is, [height, width, channels].

  Raises:
    tf.errors.OpError: it cannot be read, or decoded.
  """
  try:
    encoded, _ = reader.read(tf.constant(example_id, tf.int32))
    return _decoded(reader, encoded).numpy()
  except tf.errors.OpError:
    raise
  except Exception as error:
    # Outside of a graph what Pillow and tifffile raise comes as it is.
    raise tf.errors.InvalidArgumentError(None, None, str(error)) from error


def _decoded(reader: Any, encoded: tf.Tensor) -> tf.Tensor:
  return decode.decode_image(
    encoded, reader.channels, reader.background, reader.maximum
  )


@no_autograph
def from_images(
  reader: Any, dataset: tf.data.Dataset, crops: Any
) -> tf.data.Dataset:
  """Maps batches of (id, epoch) to batches of decoded, cropped images."""
  pixels: Any = tf.constant(np.asarray(reader.images))
  none = np.full(len(reader.images), -1, np.int32)
  numbers = tf.constant(none if reader.labels is None else reader.labels)

  def read(ids, epochs):
    images = tf.gather(pixels, ids)
    if reader.maximum:
      images = decode.scaled(images, reader.maximum)
    image = crops.many(images, ids, epochs)
    return _record(ids, ids, epochs, tf.gather(numbers, ids), image)

  return dataset.map(read, num_parallel_calls=cores())


@no_autograph
def from_files(
  reader: Any, dataset: tf.data.Dataset, crops: Any, local: int, on_error: str
) -> tf.data.Dataset:
  """Maps single (id, epoch) to batches of `local` cropped images.

  `on_error` says what becomes of an unreadable one: 'raise'; 'next' takes a
  readable id instead, see `strides`; 'mark' sets the id to -1.
  """
  steps = tf.constant(strides(reader.size) if on_error == 'next' else [0])

  def decoded(i):
    i = tf.cast(i % reader.size, tf.int32)
    encoded, label = reader.read(i)
    image = _decoded(reader, encoded)
    if reader.partner is not None:
      image = (image, _decoded(reader, reader.partner(i)))
    return i, label, image

  def read(wanted, epoch):
    if on_error == 'raise':
      used, label, image = decoded(wanted)
    else:
      tries = tf.cast(wanted, tf.int64)[None]
      if on_error == 'next':
        number = tf.range(min(_TRIES, reader.size), dtype=tf.int64)
        tries += number * tf.cast(steps[wanted], tf.int64)
      found = tf.data.Dataset.from_tensor_slices(tries).map(decoded)
      found = found.ignore_errors()
      if on_error == 'mark':
        found = found.concatenate(_nothing(reader))
      used, label, image = found.take(1).get_single_element()
    return _record(wanted, used, epoch, label, crops.one(image, used, epoch))

  return dataset.map(read, num_parallel_calls=cores()).batch(local)


@no_autograph
def from_stream(
  reader: Any, dataset: tf.data.Dataset, crops: Any, local: int, on_error: str
) -> tf.data.Dataset:
  """Maps (id, epoch, encoded, label) to batches of `local` cropped images.

  `on_error` is 'raise'; 'mark' (see `from_files`); or 'next': the readable
  rows of the batch take the place, in turn.
  """

  def read(wanted, epoch, encoded, label):
    if on_error == 'raise':
      used, image = wanted, _decoded(reader, encoded)
    else:
      found = tf.data.Dataset.from_tensors(encoded).map(
        lambda x: (wanted, label, _decoded(reader, x))
      )
      found = found.ignore_errors().concatenate(_nothing(reader))
      used, label, image = found.take(1).get_single_element()
    return _record(wanted, used, epoch, label, crops.one(image, used, epoch))

  dataset = dataset.map(read, num_parallel_calls=cores()).batch(local)
  return dataset.map(_replace_in_batch) if on_error == 'next' else dataset


def finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Sets what all our datasets have in common."""
  options = tf.data.Options()
  options.deterministic = True
  options.threading.private_threadpool_size = cores()
  # Every degree of parallelism is given; tuning would only cost time.
  options.autotune.enabled = False
  return dataset.prefetch(2).with_options(options)


def cores() -> int:
  """Returns how many cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _record(wanted, used, epoch, label, image) -> dict:
  return {
    'wanted': wanted,
    'id': used,
    'epoch': epoch,
    'label': label,
    'image': image,
  }


def _nothing(reader: Any) -> tf.data.Dataset:
  """One element that stands for an unreadable image: id -1, a black pixel."""
  dtype = tf.float32 if reader.maximum else tf.uint8
  pixel = tf.zeros([1, 1, reader.channels], dtype)
  return tf.data.Dataset.from_tensors((tf.constant(-1), tf.constant(-1), pixel))


def _replace_in_batch(batch: dict) -> dict:
  """Puts the readable rows, in turn, in the place of the unreadable ones."""
  readable = batch['id'] >= 0
  check = tf.debugging.Assert(tf.reduce_any(readable), ['nothing readable'])
  rows = tf.range(tf.size(readable))
  with tf.control_dependencies([check]):
    stand_ins = tf.boolean_mask(rows, readable)
  # From the one after the first unreadable on, each in its turn.
  turn = tf.cumsum(tf.cast(~readable, tf.int32)) - 1
  turn += tf.argmin(tf.cast(readable, tf.int32), output_type=tf.int32)
  turn = tf.gather(stand_ins, turn % tf.size(stand_ins))
  source = tf.where(readable, rows, turn)
  wanted = batch['wanted']
  batch = tf.nest.map_structure(lambda x: tf.gather(x, source), batch)
  return batch | {'wanted': wanted}
