"""How the examples of a split are got at: one contract, two ways.

A reader has what follows, and nothing else of it is used:

  subset(ids) -> reader       some of its examples, numbered anew
  image(id) -> array          [height, width, channels], as it is
  train(order, crops, replace) -> tf.data.Dataset of batches, endless
  evaluate(ids, local, crops, mark) -> tf.data.Dataset of batches
  passed_over(wanted, used) -> ids that were unreadable where `used` stands in

Images are uint8; of more than 8 bits, float32 in [0, 1] (see `scaling`). The
batches are those of `reading._record`. `crops` has `one(image, id, epoch)`
and `many(images, ids, epochs)`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from contrastive_jax.data import scaling


class Reader(Protocol):
  """See the module's docstring."""

  def subset(self, ids: np.ndarray) -> 'Reader':
    """Returns some of the examples, numbered anew."""
    ...

  def image(self, example_id: int) -> np.ndarray:
    """Returns one example as it is."""
    ...

  def train(self, order: Any, crops: Any, replace: bool) -> Any:
    """Returns endless batches of crops."""
    ...

  def evaluate(
    self, ids: np.ndarray, local: int, crops: Any, mark: bool
  ) -> Any:
    """Returns each of the ids once, in batches."""
    ...

  def passed_over(self, wanted: int, used: int) -> np.ndarray:
    """Returns the ids in whose place `used` stands."""
    ...


def _reading():
  from contrastive_jax.data import reading  # TensorFlow takes seconds

  return reading


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
  """Decoded images of one size.

  Attributes:
    images: uint8, uint16 or float32 [n, height, width, channels].
    labels: int32 [n], or None.
    maximum: the white of the latter two.
  """

  images: np.ndarray
  labels: np.ndarray | None = None
  maximum: float = 0.0

  def subset(self, ids):
    """Returns some of the examples, numbered anew."""
    labels = None if self.labels is None else self.labels[ids]
    return InMemory(self.images[ids], labels, self.maximum)

  def image(self, example_id):
    """Returns one example as it is."""
    image = self.images[example_id]
    return scaling.scaled(image, self.maximum) if self.maximum else image

  def train(self, order, crops, replace):
    """Returns endless batches of crops."""
    del replace  # all of them can be read
    reading = _reading()
    dataset = reading.ids(len(self.images), order)
    return reading.from_images(self, dataset, crops)

  def evaluate(self, ids, local, crops, mark):
    """Returns each of the ids once, in batches."""
    del mark
    reading = _reading()
    dataset = reading.given_ids(ids).batch(local)
    return reading.from_images(self, dataset, crops)

  def passed_over(self, wanted, used):
    """Returns the ids in whose place `used` stands."""
    raise AssertionError(f'{wanted} in memory was replaced by {used}')


@dataclasses.dataclass(frozen=True, eq=False)
class RandomAccess:
  """Encoded files, any of which can be asked for.

  Attributes:
    read: id (int32 tensor) -> (encoded file, label), string and int32 tensors.
    size: number of examples.
    channels: of the decoded images.
    background: what shows through alpha, a gray or RGB in [0, 1].
    maximum: the white of images of more than 8 bits; 0: these, too, are uint8.
    partner: id -> the encoded file of another image, from which every second
      view is made; None: all are of the same.
  """

  read: Callable[[Any], Any]
  size: int
  channels: int
  background: tuple[float, ...] = (1.0,)
  maximum: float = 0.0
  partner: Callable[[Any], Any] | None = None

  def subset(self, ids):
    """Returns some of the examples, numbered anew."""
    read, partner = (
      f and _reading().read_of(f, ids) for f in (self.read, self.partner)
    )
    return dataclasses.replace(self, read=read, partner=partner, size=len(ids))

  def image(self, example_id):
    """Returns one example as it is."""
    return _reading().decoded_image(self, example_id)

  def train(self, order, crops, replace):
    """Returns endless batches of crops."""
    reading = _reading()
    dataset = reading.ids(self.size, order).unbatch()
    on_error = 'next' if replace else 'raise'
    return reading.from_files(self, dataset, crops, order.local, on_error)

  def evaluate(self, ids, local, crops, mark):
    """Returns each of the ids once, in batches; of pairs, the first image."""
    reading = _reading()
    on_error = 'mark' if mark else 'raise'
    dataset = reading.given_ids(ids)
    alone = dataclasses.replace(self, partner=None)
    return reading.from_files(alone, dataset, crops, local, on_error)

  def passed_over(self, wanted, used):
    """Returns the ids in whose place `used` stands."""
    return _reading().passed_over(self.size, wanted, used)
