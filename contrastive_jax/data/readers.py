"""How the examples of a split are got at: one contract, three ways.

A reader has what follows, and nothing else of it is used:

  subset(ids) -> reader       some of its examples, numbered anew
  head(count) -> reader       the first examples, at random access
  image(id) -> array          uint8 [height, width, channels], as it is
  train(order, crops, replace) -> tf.data.Dataset of batches, endless
  evaluate(ids, size, local, crops, mark) -> tf.data.Dataset of batches
  passed_over(wanted, used) -> ids that were unreadable where `used` stands in

The batches are those of `reading._record`. `crops` has `one(image, id, epoch)`
and `many(images, ids, epochs)`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class Reader(Protocol):
  """See the module's docstring."""

  def subset(self, ids: np.ndarray) -> 'Reader': ...  # noqa: D102
  def head(self, count: int) -> 'Reader': ...  # noqa: D102
  def image(self, example_id: int) -> np.ndarray: ...  # noqa: D102
  def train(self, order: Any, crops: Any, replace: bool) -> Any: ...  # noqa: D102
  def evaluate(  # noqa: D102
    self, ids: np.ndarray, size: int, local: int, crops: Any, mark: bool
  ) -> Any: ...
  def passed_over(self, wanted: int, used: int) -> np.ndarray: ...  # noqa: D102


def _reading():
  from contrastive_jax.data import reading  # TensorFlow takes seconds

  return reading


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
  """Decoded images of one size.

  Attributes:
    images: uint8 [n, height, width, channels].
    labels: int32 [n], or None.
  """

  images: np.ndarray
  labels: np.ndarray | None = None

  def subset(self, ids):  # noqa: D102
    labels = None if self.labels is None else self.labels[ids]
    return InMemory(self.images[ids], labels)

  def head(self, count):  # noqa: D102
    return self.subset(np.arange(min(count, len(self.images))))

  def image(self, example_id):  # noqa: D102
    return self.images[example_id]

  def train(self, order, crops, replace):  # noqa: D102
    del replace  # all of them can be read
    reading = _reading()
    dataset = reading.ids(len(self.images), order)
    return reading.from_images(self.images, self.labels, dataset, crops)

  def evaluate(self, ids, size, local, crops, mark):  # noqa: D102
    del size, mark
    reading = _reading()
    dataset = reading.given_ids(ids).batch(local)
    return reading.from_images(self.images, self.labels, dataset, crops)

  def passed_over(self, wanted, used):  # noqa: D102
    raise AssertionError(f'{wanted} in memory was replaced by {used}')


@dataclasses.dataclass(frozen=True, eq=False)
class RandomAccess:
  """Encoded files, any of which can be asked for.

  Attributes:
    read: id (int32 tensor) -> (encoded file, label), string and int32 tensors.
    size: number of examples.
    channels: of the decoded images, 1 or 3.
  """

  read: Callable[[Any], Any]
  size: int
  channels: int

  def subset(self, ids):  # noqa: D102
    return RandomAccess(
      _reading().read_of(self.read, ids), len(ids), self.channels
    )

  def head(self, count):  # noqa: D102
    return dataclasses.replace(self, size=min(count, self.size))

  def image(self, example_id):  # noqa: D102
    return _reading().decoded_image(self.read, example_id, self.channels)

  def train(self, order, crops, replace):  # noqa: D102
    reading = _reading()
    dataset = reading.ids(self.size, order).unbatch()
    on_error = 'next' if replace else 'raise'
    return reading.from_files(self, dataset, crops, order.local, on_error)

  def evaluate(self, ids, size, local, crops, mark):  # noqa: D102
    del size
    reading = _reading()
    on_error = 'mark' if mark else 'raise'
    dataset = reading.given_ids(ids)
    return reading.from_files(self, dataset, crops, local, on_error)

  def passed_over(self, wanted, used):  # noqa: D102
    return (wanted + np.arange((used - wanted) % self.size)) % self.size


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
  """Encoded files in shards that can only be read from their beginning.

  Attributes:
    stream: (order of shards, how many to read side by side) ->
      tf.data.Dataset of (id, encoded file, label); in id order for 0, 1, ...
      and one at a time.
    shards: number of them.
    size: number of examples.
    channels: of the decoded images, 1 or 3.
  """

  stream: Callable[[Any, int], Any]
  shards: int
  size: int
  channels: int

  def in_order(self):
    """Returns the tf.data.Dataset of all examples, by id."""
    return self.stream(np.arange(self.shards), 1)

  def subset(self, ids):  # noqa: D102
    stream = _reading().stream_of(self.stream, self.size, ids)
    return dataclasses.replace(self, stream=stream, size=len(ids))

  def head(self, count):
    """Keeps them in memory: no asking a stream for one of its images."""
    read, size = _reading().in_memory(self.in_order().take(count))
    return RandomAccess(read, size, self.channels)

  def image(self, example_id):  # noqa: D102
    return self.head(example_id + 1).image(example_id)

  def train(self, order, crops, replace):  # noqa: D102
    reading = _reading()
    dataset = reading.stream_rows(self, order)
    on_error = 'next' if replace else 'raise'
    return reading.from_stream(self, dataset, crops, order.local, on_error)

  def evaluate(self, ids, size, local, crops, mark):  # noqa: D102
    reading = _reading()
    dataset = reading.chosen_rows(self.in_order().take(size), ids, size)
    on_error = 'mark' if mark else 'raise'
    return reading.from_stream(self, dataset, crops, local, on_error)

  def passed_over(self, wanted, used):  # noqa: D102
    del used  # another row of the batch
    return np.array([wanted])
