"""Order, crops and batches: exact for (seed, epoch, example id, view).

The order of an epoch is a permutation from (seed, epoch); batch s holds rows
of epoch s // steps_per_epoch. A random resized crop depends on (seed, epoch,
id, view) and on nothing else: not on the process, the worker or a resume. Flips
and photometric work are done on the device.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data import crops, reading
from contrastive_jax.data.order import Order
from contrastive_jax.data.split import Split
from contrastive_jax.data.tensorflow_host import tf


class View(NamedTuple):
  """One random resized crop to `size` x `size` pixels.

  `scale` is the range of the share of the image's area, `ratio` that of
  width / height, `rule` one of `crops.RULES`.
  """

  size: int
  scale: tuple[float, float]
  ratio: tuple[float, float]
  rule: str = 'byol'


def steps_per_epoch(split: Split, batch_size: int) -> int:
  """Returns the number of whole batches in an epoch; the rest is left out.

  Raises:
    ValueError: the batch is larger than the split.
  """
  if batch_size > split.size:
    raise Error(
      f'batch size {batch_size} is larger than the {split.size} images of'
      f' {split.name}'
    )
  return split.size // batch_size


class _RandomCrops(NamedTuple):
  """The random resized crops of an epoch, one a view; see `readers`."""

  views: tuple[View, ...]
  seed: int
  interpolation: str
  antialias: bool

  def one(self, image, example_id, epoch):
    # Of a pair, the views are of the one and the other in turn.
    images = image if isinstance(image, tuple) else (image,)
    made: list[Any] = [None] * len(self.views)
    drawn: list[Any] = [None] * len(self.views)
    for first, image in enumerate(images):
      own = range(first, len(made), len(images))
      if not own:  # the second of a pair, and one view
        continue
      boxes = [
        crops.random_box(
          crops.draws(self.seed, v, example_id, epoch),
          tf.shape(image)[:2],
          self.views[v].scale,
          self.views[v].ratio,
          self.views[v].rule,
        )
        for v in own
      ]
      drawn[first :: len(images)] = boxes
      made[first :: len(images)] = crops.resize(
        image,
        boxes,
        [self.views[v].size for v in own],
        self.interpolation,
        self.antialias,
      )
    return tuple(made), tuple(drawn)

  def many(self, images, ids, epochs):
    made, drawn = [], []
    for v, view in enumerate(self.views):
      uniform = tf.map_fn(
        lambda x, v=v: crops.draws(self.seed, v, *x),
        (ids, epochs),
        fn_output_signature=tf.float32,
      )
      shape = tf.shape(images)[1:3]
      boxes = crops.random_box(
        uniform, shape, view.scale, view.ratio, view.rule
      )
      how = (view.size, self.interpolation, self.antialias)
      made.append(crops.resize_many(images, boxes, *how))
      drawn.append(boxes)
    return tuple(made), tuple(drawn)


class _CentralCrop(NamedTuple):
  """The central square of `share` times the shorter side; see `readers`.

  None: the whole image, whatever its sides.
  """

  size: int
  share: float | None
  interpolation: str
  antialias: bool

  def _box(self, shape):
    if self.share is None:
      return tf.concat([[0, 0], shape], axis=0)
    return crops.central_box(shape, self.size, self.share)

  def one(self, image, *_):
    box = self._box(tf.shape(image)[:2])
    (made,) = crops.resize(
      image, [box], [self.size], self.interpolation, self.antialias
    )
    return made

  def many(self, images, ids, _):
    box = self._box(tf.shape(images)[1:3])
    boxes = tf.repeat(box[None], tf.shape(ids)[0], axis=0)
    how = (self.size, self.interpolation, self.antialias)
    return crops.resize_many(images, boxes, *how)


class TrainBatches:
  """Endless batches of views; batch s is the same however one gets there.

  An example that cannot be decoded is replaced by one that can
  (`reading.strides`): the batch has its id, and `unreadable` (id -> name)
  collects the others.

  Yields dicts of arrays:
    views: tuple of [b, size, size, channels], one a `View`: uint8, or float32
      in [0, 1] (`Split.dtype`).
    boxes: tuple of int32 [b, 4], one a `View`: top, left, height and width of
      what it shows, pixels.
    id, epoch, label: int32 [b]; label is -1 without labels.
    replaced: bool [b], where another example was meant.

  They are TensorFlow's, and are not to be written to.
  """

  def __init__(
    self,
    split: Split,
    views: Sequence[View],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    interpolation: str = 'bicubic',
    antialias: bool = False,
    process_index: int = 0,
    process_count: int = 1,
  ):
    """Opens the split at a step.

    Args:
      split: what to read.
      views: one random resized crop each.
      batch_size: images a step, of all processes together.
      seed: of order and crops, >= 0.
      start_step: the first batch; those before it are not decoded.
      interpolation: 'bicubic' or 'bilinear'.
      antialias: whether what is made smaller is averaged, as PIL does it.
      process_index: this process gets the contiguous rows
        [process_index * b, (process_index + 1) * b) of the global batch.
      process_count: b = batch_size / process_count.

    Raises:
      ValueError: arguments that cannot be; or later, nothing can be read.
    """
    _check(interpolation, batch_size, process_count)
    if not 0 <= seed < 2**55:
      raise Error(f'the seed must be in [0, 2**55), not {seed}')
    self.unreadable: dict[int, str] = {}
    self._split = split
    self._step = start_step
    self._careful = False
    local = batch_size // process_count
    self._order = Order(
      batch_size,
      steps_per_epoch(split, batch_size),
      process_index * local,
      local,
      seed,
      start_step,
    )
    self._crops = _RandomCrops(tuple(views), seed, interpolation, antialias)
    self._iterator = self._open()

  def _open(self) -> Iterator:
    order = self._order._replace(start_step=self._step)
    return iter(
      reading.finish(
        self._split.reader.train(order, self._crops, self._careful)
      )
    )

  def __iter__(self):
    return self

  def __next__(self) -> dict[str, Any]:
    try:
      batch = next(self._iterator)
    except tf.errors.OpError as error:
      if self._careful:
        _check_reads(self._split, error)
        raise Error(
          f'{self._split.name}: found no readable image to take the place of'
          ' an unreadable one'
        ) from error
      # Guarding every example costs some 5 %: only from the first bad one on.
      self._careful = True
      self._iterator = self._open()
      return next(self)
    self._step += 1
    # The tensors' own memory: `.numpy()` would copy it.
    batch = tf.nest.map_structure(lambda x: np.asarray(memoryview(x)), batch)
    wanted, used = batch.pop('wanted'), batch['id']
    replaced = wanted != used
    for i, j in zip(wanted[replaced], used[replaced], strict=True):
      for bad in self._split.reader.passed_over(i, j):
        self.unreadable[int(bad)] = self._split.describe(int(bad))
    views, boxes = batch.pop('image')
    return {'views': views, 'boxes': boxes, **batch, 'replaced': replaced}

  def close(self) -> None:
    """Stops reading ahead."""
    self._iterator = iter(())


def eval_batches(
  split: Split,
  *,
  image_size: int,
  crop: float | None,
  batch_size: int,
  interpolation: str = 'bicubic',
  antialias: bool = False,
  process_index: int = 0,
  process_count: int = 1,
  limit: int | None = None,
  unreadable: dict[int, str] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields every example exactly once, in id order; the rest is padding.

  The picture is the central square of `crop` times the shorter side, resized
  (an image of image_size x image_size pixels is taken as it is).

  Args:
    split: what to read.
    image_size: side of the result, pixels.
    crop: share of the shorter side, in (0, 1]; None: all of the image,
      squeezed into the square.
    batch_size: images a batch, of all processes together.
    interpolation: 'bicubic' or 'bilinear'.
    antialias: whether what is made smaller is averaged, as PIL does it.
    process_index: this process gets contiguous rows of the global batch.
    process_count: every process gets the same number of batches.
    limit: only the first so many examples.
    unreadable: filled with id -> name; a warning names them, too.

  Yields:
    input: [b, image_size, image_size, channels], of `Split.dtype`.
    id, label: int32 [b]; -1 in padding, label -1 also without labels.
    mask: bool [b]; False in padding and for unreadable examples.

  Raises:
    ValueError: arguments that cannot be.
  """
  _check(interpolation, batch_size, process_count)
  local = batch_size // process_count
  size = split.size if limit is None else min(limit, split.size)
  ids = np.arange(size, dtype=np.int32)
  ids = ids[ids % batch_size // local == process_index]

  central = _CentralCrop(image_size, crop, interpolation, antialias)

  def build(step: int, careful: bool) -> Iterator:
    own = ids[step * local :]
    return iter(
      reading.finish(split.reader.evaluate(own, local, central, careful))
    )

  def batches():
    careful = False
    iterator = build(0, careful)
    for step in range(-(-size // batch_size)):
      try:
        batch = next(iterator, None)
      except tf.errors.OpError:
        careful = True
        iterator = build(step, careful)
        try:
          batch = next(iterator, None)
        except tf.errors.OpError as error:
          _check_reads(split, error)
          raise
      yield _padded(batch)

  def _padded(batch):
    shape = (local, image_size, image_size, split.channels)
    out = {
      'input': np.zeros(shape, split.dtype),
      'id': np.full(local, -1, np.int32),
      'label': np.full(local, -1, np.int32),
      'mask': np.zeros(local, bool),
    }
    if batch is None:
      return out
    rows = len(batch['id'])
    out['input'][:rows] = batch['image']
    out['id'][:rows] = batch['wanted']
    out['label'][:rows] = batch['label']
    out['mask'][:rows] = batch['id'].numpy() >= 0
    for i in out['id'][:rows][~out['mask'][:rows]]:
      name = split.describe(int(i))
      logging.warning('%s cannot be read and is left out', name)
      if unreadable is not None:
        unreadable[int(i)] = name
    return out

  return batches()


def _check_reads(split: Split, error: tf.errors.OpError) -> None:
  if found := reading.failure(error):
    example, reason = found
    raise Error(
      f'{split.describe(example)} could not be read in '
      f'{len(reading.PAUSES) + 1} tries ({reason}): is its file system there?'
    ) from error


def _check(interpolation: str, batch_size: int, process_count: int) -> None:
  if interpolation not in crops.INTERPOLATIONS:
    known = ' or '.join(crops.INTERPOLATIONS)
    raise Error(f"interpolation must be {known}, not '{interpolation}'")
  if batch_size % process_count:
    raise Error(
      f'batch size {batch_size} is not divisible by {process_count} processes'
    )
