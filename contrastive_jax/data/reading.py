"""Graphs that turn example ids into batches; one for each kind of split."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.data import decode
from contrastive_jax.data.decode import tf
from contrastive_jax.data.sources import Split

# How many examples in a row may be unreadable before a run gives up.
_TRIES = 1000
# Files of a stream that are read side by side.
_CYCLE = 16


class Rows(NamedTuple):
  """The rows [first, first + local) of every batch of an epoch's `steps`."""

  batch_size: int
  steps: int
  first: int
  local: int


def ids(
  split: Split, rows: Rows, seed: int, start_step: int
) -> tf.data.Dataset:
  """Returns endless batches of (id, epoch), int32 [local] each."""

  def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    epoch, order, step = -1, np.zeros(0, np.int32), start_step
    while True:
      if step // rows.steps != epoch:
        epoch = step // rows.steps
        order = np.random.default_rng([seed, epoch]).permutation(split.size)
      start = step % rows.steps * rows.batch_size + rows.first
      batch = order[start : start + rows.local].astype(np.int32)
      yield batch, np.full_like(batch, epoch)
      step += 1

  spec = tf.TensorSpec([rows.local], tf.int32)
  return tf.data.Dataset.from_generator(generate, output_signature=(spec, spec))


def stream_rows(
  split: Split, rows: Rows, seed: int, start_step: int, shuffle_buffer: int
) -> tf.data.Dataset:
  """Returns endless (id, epoch, encoded, label): this process's rows.

  The order of the files and a shuffle buffer follow from (seed, epoch). Rows
  of others, and those before `start_step`, are read but not decoded: every
  process reads all bytes, and a resume reads its epoch again up to its place.
  """

  def generate() -> Iterator[tuple]:
    epoch, skip = divmod(start_step, rows.steps)
    while True:
      rng = np.random.default_rng([seed, epoch])
      order = rng.permutation(split.shards)
      yield epoch, order, rng.integers(2**62), skip * rows.batch_size
      epoch, skip = epoch + 1, 0

  def one_epoch(epoch, order, shuffle_seed, skip):
    assert split.stream is not None
    dataset = split.stream(order, _CYCLE)
    dataset = dataset.shuffle(
      shuffle_buffer, shuffle_seed, reshuffle_each_iteration=False
    )
    dataset = dataset.take(rows.steps * rows.batch_size).skip(skip).enumerate()
    row = rows.first + np.arange(rows.local)
    mine = tf.constant(np.isin(np.arange(rows.batch_size), row))
    dataset = dataset.filter(lambda n, _: mine[n % rows.batch_size])
    return dataset.map(lambda _, x: (x[0], tf.cast(epoch, tf.int32), *x[1:]))

  scalar = tf.TensorSpec([], tf.int64)
  dataset: Any = tf.data.Dataset.from_generator(
    generate,
    output_signature=(scalar, tf.TensorSpec([None], tf.int64), scalar, scalar),
  )
  return dataset.flat_map(one_epoch)


def from_images(
  split: Split, dataset: tf.data.Dataset, crop
) -> tf.data.Dataset:
  """Maps batches of (id, epoch) to batches of decoded, cropped images."""
  images: Any = tf.constant(np.asarray(split.images))
  none = np.full(split.size, -1, np.int32)
  labels = tf.constant(none if split.labels is None else split.labels)

  def read(ids, epochs):
    image = crop(tf.gather(images, ids), ids, epochs)
    return _record(ids, ids, epochs, tf.gather(labels, ids), image)

  return dataset.map(read, num_parallel_calls=cores())


def from_files(
  split: Split, dataset: tf.data.Dataset, crop, local: int, on_error: str
) -> tf.data.Dataset:
  """Maps single (id, epoch) to batches of `local` cropped images.

  `on_error` says what becomes of an unreadable one: 'raise'; 'next' takes the
  next readable id instead; 'mark' sets the id to -1.
  """

  def decoded(i):
    assert split.read is not None
    i = tf.cast(i % split.size, tf.int32)
    encoded, label = split.read(i)
    return i, label, decode.decode_image(encoded, split.channels)

  def read(wanted, epoch):
    if on_error == 'raise':
      used, label, image = decoded(wanted)
    else:
      i = tf.cast(wanted, tf.int64)
      tries = min(_TRIES, split.size) if on_error == 'next' else 1
      found = tf.data.Dataset.range(i, i + tries).map(decoded).ignore_errors()
      if on_error == 'mark':
        found = found.concatenate(_nothing(split))
      used, label, image = found.take(1).get_single_element()
    return _record(wanted, used, epoch, label, crop(image, used, epoch))

  return dataset.map(read, num_parallel_calls=cores()).batch(local)


def from_stream(
  split: Split, dataset: tf.data.Dataset, crop, local: int, on_error: str
) -> tf.data.Dataset:
  """Maps (id, epoch, encoded, label) to batches of `local` cropped images.

  `on_error` is 'raise'; 'mark' (see `from_files`); or 'next': the next
  readable row of the batch takes the place.
  """

  def read(wanted, epoch, encoded, label):
    if on_error == 'raise':
      used, image = wanted, decode.decode_image(encoded, split.channels)
    else:
      found = tf.data.Dataset.from_tensors(encoded).map(
        lambda x: (wanted, label, decode.decode_image(x, split.channels))
      )
      found = found.ignore_errors().concatenate(_nothing(split))
      used, label, image = found.take(1).get_single_element()
    return _record(wanted, used, epoch, label, crop(image, used, epoch))

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


def _nothing(split: Split) -> tf.data.Dataset:
  """One element that stands for an unreadable image: id -1, a black pixel."""
  pixel = tf.zeros([1, 1, split.channels], tf.uint8)
  return tf.data.Dataset.from_tensors((tf.constant(-1), tf.constant(-1), pixel))


def _replace_in_batch(batch: dict) -> dict:
  """Puts the next readable row, cyclically, in the place of unreadable ones."""
  readable = batch['id'] >= 0
  check = tf.debugging.Assert(tf.reduce_any(readable), ['nothing readable'])
  rows = tf.range(tf.size(readable))
  turned = (rows[:, None] + rows[None, :]) % tf.size(rows)
  with tf.control_dependencies([check]):
    offset = tf.argmax(tf.gather(readable, turned), 1, tf.int32)
  source = (rows + offset) % tf.size(rows)
  wanted = batch['wanted']
  batch = tf.nest.map_structure(lambda x: tf.gather(x, source), batch)
  return batch | {'wanted': wanted}
