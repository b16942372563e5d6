"""Order, crops and batches: exact for (seed, epoch, example id, view)."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from contrastive_jax.data import decode
from contrastive_jax.data.decode import tf
from contrastive_jax.data.sources import Split


class View(NamedTuple):
  """One random resized crop to `size` x `size` pixels.

  `scale` is the range of the share of the image's area, `ratio` that of
  width / height.
  """

  size: int
  scale: tuple[float, float]
  ratio: tuple[float, float]


def steps_per_epoch(split: Split, batch_size: int) -> int:
  """Returns the number of whole batches in an epoch; the rest is dropped.

  Raises:
    ValueError: the batch is larger than the split.
  """
  if batch_size > split.size:
    raise ValueError(
      f'batch size {batch_size} is larger than the {split.size} images of'
      f' {split.name}'
    )
  return split.size // batch_size


def epoch_order(split: Split, seed: int, epoch: int) -> np.ndarray:
  """Returns the ids of an epoch in their order: a permutation, int32."""
  order = np.random.default_rng([seed, epoch]).permutation(split.size)
  return order.astype(np.int32)


class TrainBatches:
  """Endless batches of views; batch s is the same however one gets there.

  Args:
    split: what to read.
    views: one random resized crop each.
    batch_size: of all processes together.
    seed: of order and crops, >= 0.
    start_step: the first batch; those before it are not decoded.
    interpolation: 'bicubic' or 'bilinear', without antialiasing.
    process_index: this process gets the contiguous rows
      [process_index * b, (process_index + 1) * b) of the global batch.
    process_count: b = batch_size / process_count.
    shuffle_buffer: examples; only for a stream (large TFDS, TFRecord).

  Yields:
    views: tuple of uint8 [b, size, size, channels], one a `View`.
    id, epoch, label: int32 [b]; label is -1 without labels.
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
    process_index: int = 0,
    process_count: int = 1,
    shuffle_buffer: int = 50_000,
  ):
    if batch_size % process_count:
      raise ValueError(
        f'batch size {batch_size} is not divisible by {process_count} processes'
      )
    self.unreadable: dict[int, str] = {}
    self._split = split
    steps = steps_per_epoch(split, batch_size)
    local = batch_size // process_count
    first = process_index * local

    def rows():
      epoch, order, step = -1, None, start_step
      while True:
        if step // steps != epoch:
          epoch = step // steps
          order = epoch_order(split, seed, epoch)
        start = step % steps * batch_size + first
        yield order[start : start + local], np.int32(epoch)
        step += 1

    def make_views(ids, epoch):
      images = tf.gather(pixels, ids)
      shape = tf.shape(images)[1:3]
      crops = []
      for index, view in enumerate(views):
        draws = tf.map_fn(
          lambda i, index=index: decode.draws(seed, epoch, i, index),
          ids,
          fn_output_signature=tf.float32,
        )
        boxes = decode.random_box(draws, shape, view.scale, view.ratio)
        crops.append(
          decode.resize_many(images, boxes, view.size, interpolation)
        )
      return {
        'views': tuple(crops),
        'id': ids,
        'epoch': tf.fill(tf.shape(ids), epoch),
        'label': tf.gather(labels, ids),
      }

    labels = decode.label_table(split)
    pixels = tf.constant(split.images)
    dataset = tf.data.Dataset.from_generator(
      rows,
      output_signature=(
        tf.TensorSpec([local], tf.int32),
        tf.TensorSpec([], tf.int32),
      ),
    )
    dataset = dataset.map(make_views, num_parallel_calls=_cores())
    self._iterator = iter(_finish(dataset))

  def __iter__(self):
    return self

  def __next__(self):
    batch = next(self._iterator)
    return tf.nest.map_structure(lambda x: x.numpy(), batch)

  def close(self):
    """Stops reading ahead."""
    self._iterator = iter(())


def eval_batches(
  split: Split,
  *,
  image_size: int,
  crop: float,
  batch_size: int,
  interpolation: str = 'bicubic',
  process_index: int = 0,
  process_count: int = 1,
  limit: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields every example exactly once, in id order; the rest is masked."""
  local = batch_size // process_count
  count = split.size if limit is None else min(limit, split.size)
  labels = decode.label_table(split)
  pixels = tf.constant(split.images)

  def make_images(ids, mask):
    images = tf.gather(pixels, ids)
    box = decode.central_box(tf.shape(images)[1:3], image_size, crop)
    boxes = tf.repeat(box[None], tf.shape(ids)[0], axis=0)
    return {
      'image': decode.resize_many(images, boxes, image_size, interpolation),
      'id': ids,
      'label': tf.gather(labels, ids),
      'mask': mask,
    }

  starts = range(process_index * local, count + batch_size, batch_size)
  rows = np.arange(local) + np.array(starts)[:, None]
  rows = rows[: -(-count // batch_size)].astype(np.int32)
  dataset = tf.data.Dataset.from_tensor_slices(
    (np.minimum(rows, count - 1), rows < count)
  )
  dataset = dataset.map(make_images, num_parallel_calls=_cores())
  for batch in _finish(dataset):
    yield {k: v.numpy() for k, v in batch.items()}


def _cores() -> int:
  """The cores that this process may use."""
  return len(os.sched_getaffinity(0))


def _finish(dataset):
  """Sets what all our datasets have in common."""
  options = tf.data.Options()
  options.deterministic = True
  options.threading.private_threadpool_size = _cores()
  options.autotune.enabled = False
  return dataset.prefetch(2).with_options(options)
