"""Graphs that turn example ids into batches; the readers put them together."""

import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from contrastive_jax.data import decode
from contrastive_jax.data.order import Order, batches
from contrastive_jax.data.tensorflow_host import no_autograph, tf

# How many examples in a row may be unreadable before a run gives up.
_TRIES = 1000
# Seconds before a read that failed is tried again.
PAUSES = (1, 4, 10)
_FAILURE = 'failure at example '
# What stays as it is: no such file, no permission, a record with a wrong sum.
_FINAL = (
  tf.errors.NotFoundError,
  tf.errors.PermissionDeniedError,
  tf.errors.FailedPreconditionError,
  tf.errors.InvalidArgumentError,
  tf.errors.DataLossError,
  tf.errors.OutOfRangeError,
  FileNotFoundError,
  PermissionError,
  IsADirectoryError,
)


def ids(size: int, order: Order) -> tf.data.Dataset:
  """Returns endless batches of (id, epoch), int32 [local] each."""
  rows = slice(order.first, order.first + order.local)

  def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for epoch, batch in batches(size, order):
      yield batch[rows], np.full(order.local, epoch, np.int32)

  spec = tf.TensorSpec([order.local], tf.int32)
  return tf.data.Dataset.from_generator(generate, output_signature=(spec, spec))


def given_ids(ids: np.ndarray) -> tf.data.Dataset:
  """Returns (id, epoch 0) of the given ids, one after the other."""
  return tf.data.Dataset.from_tensor_slices((ids, np.zeros_like(ids)))


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


def _patiently(read: Callable) -> Callable:
  """Returns `read` as it is where single examples may be unreadable.

  An example that is not there or has a wrong sum gives a file of no bytes. Any
  other failure is taken for one of the file system: it is tried again, and
  raises after `len(PAUSES) + 1` times, see `failure`.
  """

  def again(example_id):
    for pause in (*PAUSES, None):
      try:
        encoded, label = read(tf.constant(example_id, tf.int32))
        return encoded.numpy(), label.numpy()
      except _FINAL:
        break
      except (tf.errors.OpError, OSError) as error:
        if pause is None:
          reason = str(getattr(error, 'message', error)).splitlines()[0]
          raise OSError(f'{_FAILURE}{example_id} {reason}') from error
        time.sleep(pause)
      except Exception:  # of a library that does not like the record
        break
    return b'', np.int32(-1)

  def fallback(i):
    encoded, label = tf.numpy_function(again, [i], (tf.string, tf.int32))
    return tf.ensure_shape(encoded, []), tf.ensure_shape(label, [])

  def either(i):
    this = tf.data.Dataset.from_tensors(i)
    found = this.map(read).ignore_errors().concatenate(this.map(fallback))
    return found.take(1).get_single_element()

  return either


def failure(error: tf.errors.OpError) -> tuple[int, str] | None:
  """Returns the example at which the file system failed, and how it did.

  Args:
    error: raised by a data set; None is returned if it says something else.
  """
  found = re.search(f'{_FAILURE}([0-9]+) (.*)', error.message)
  return (int(found[1]), found[2]) if found else None


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
  readable id instead, see `strides`; 'mark' sets the id to -1. Where the file
  system fails, the latter two raise as well: after some tries.
  """
  steps = tf.constant(strides(reader.size) if on_error == 'next' else [0])

  partner = reader.partner and (lambda i: (reader.partner(i), tf.constant(-1)))

  def encoded(i, how):
    i = tf.cast(i % reader.size, tf.int32)
    file, label = how(reader.read)(i)
    return i, label, file, how(partner)(i)[0] if partner else file

  def decoded(i, label, file, other):
    image = _decoded(reader, file)
    if partner:
      image = (image, _decoded(reader, other))
    return i, label, image

  def readable(i):
    # Only what is wrong with the file itself is passed over.
    files = tf.data.Dataset.from_tensors(encoded(i, _patiently))
    return files.map(decoded).ignore_errors()

  def read(wanted, epoch):
    if on_error == 'raise':
      used, label, image = decoded(*encoded(wanted, lambda read: read))
    else:
      tries = tf.cast(wanted, tf.int64)[None]
      if on_error == 'next':
        number = tf.range(min(_TRIES, reader.size), dtype=tf.int64)
        tries += number * tf.cast(steps[wanted], tf.int64)
      found = tf.data.Dataset.from_tensor_slices(tries).flat_map(readable)
      if on_error == 'mark':
        found = found.concatenate(_nothing(reader))
      used, label, image = found.take(1).get_single_element()
    return _record(wanted, used, epoch, label, crops.one(image, used, epoch))

  return dataset.map(read, num_parallel_calls=cores()).batch(local)


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
