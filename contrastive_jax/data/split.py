"""The splits of a data source, and how they are divided."""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data import readers

_HOLD_OUT = 0.2  # share of each class, where a source comes without a test
_HOLD_OUT_SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """One split of a source. Example ids are 0..size-1, in a fixed order.

  Attributes:
    name: as printed, 'digits train'.
    size: number of examples.
    channels: of the delivered images, 1 or 3.
    num_classes: None where there are no labels.
    class_names: None where there are no labels.
    image_shape: (height, width) when all are equal and known up front.
    labels: int32 [size]; None without labels, and where TFDS's are too many
      to be held.
    reader: how to get at the pixels, see `readers`.
    paths: of the files, where there are files.
  """

  name: str
  size: int
  channels: int
  reader: readers.Reader
  num_classes: int | None = None
  class_names: tuple[str, ...] | None = None
  image_shape: tuple[int, int] | None = None
  labels: np.ndarray | None = None
  paths: tuple[str, ...] | None = None

  def describe(self, example_id: int) -> str:
    """Returns the path of an example, or 'digits train #12'."""
    if self.paths is not None:
      # A name need not be UTF-8, and has to be printed.
      path = os.fsencode(self.paths[example_id])
      return path.decode('utf-8', 'backslashreplace')
    return f'{self.name} #{example_id}'


class Source(NamedTuple):
  """The splits of a data source.

  `test` is None where there is none; `modality` says what an example is, see
  `modalities`; `notes` say what was found and decided, one line each.
  """

  name: str
  train: Split
  test: Split | None
  modality: str = 'images'
  notes: tuple[str, ...] = ()


def hold_out(
  labels: np.ndarray, share: float = _HOLD_OUT
) -> tuple[np.ndarray, np.ndarray]:
  """Splits ids into train and test: a fixed fifth of every class is test.

  The choice is ours (seeded by a constant), not one of the data's authors.

  Args:
    labels: int [n]; images without one (-1) stay in training.
    share: of every class that is test.

  Returns:
    Sorted ids of train and of test.
  """
  rng = np.random.default_rng(_HOLD_OUT_SEED)
  test = []
  for label in np.unique(labels[labels >= 0]):
    ids = rng.permutation(np.flatnonzero(labels == label))
    test.append(ids[: round(share * len(ids))])
  test_ids = np.sort(np.concatenate(test))
  return np.setdiff1d(np.arange(len(labels)), test_ids), test_ids


def held_out(source: Source, share: float) -> Source:
  """Puts a part of the training split in the place of the test split.

  What is chosen by a score on that part, hyper-parameters for one, has seen no
  test example: the test split is not in what is returned.

  Args:
    source: any.
    share: of every class, or of all where labels are not known; fixed, and
      held out of training.

  Returns:
    The source; ids count anew in both splits.

  Raises:
    ValueError: nothing is left on one of the sides.
  """
  split = source.train
  labels = np.zeros(split.size, int) if split.labels is None else split.labels
  train_ids, test_ids = hold_out(labels, share)
  if not (len(train_ids) and len(test_ids)):
    raise Error(
      f'holding out {share:g} of {split.size} images leaves '
      f'{len(train_ids)} to train on and {len(test_ids)} held out'
    )
  return source._replace(
    train=subset(split, train_ids, 'less those held out'),
    test=subset(split, test_ids, 'held out'),
    notes=(
      *source.notes,
      'held out of training, in the place of the test split: '
      f'{len(test_ids):,} images (data.held_out={share:g})',
    ),
  )


def subset(split: Split, ids: np.ndarray, name: str) -> Split:
  """Returns some examples of a split, numbered anew.

  Args:
    split: any.
    ids: which, rising.
    name: added to the split's.
  """
  return dataclasses.replace(
    split,
    name=f'{split.name}, {name}',
    size=len(ids),
    labels=None if split.labels is None else split.labels[ids],
    paths=split.paths and tuple(split.paths[i] for i in ids),
    reader=split.reader.subset(ids),
  )


def from_arrays(
  name: str,
  images: np.ndarray,
  labels: np.ndarray | None,
  class_names: tuple[str, ...] | None,
  channels: int | None = None,
) -> Split:
  """Makes a split of decoded images: uint8 [n, height, width, 1 or 3]."""
  if channels == 3 and images.shape[-1] == 1:
    images = np.repeat(images, 3, axis=-1)
  elif channels == 1 and images.shape[-1] == 3:
    luma = images @ np.array([0.299, 0.587, 0.114], np.float32)
    images = np.round(luma).astype(np.uint8)[..., None]
  images = np.ascontiguousarray(images)
  if labels is None:
    class_names = None
  else:
    labels = labels.astype(np.int32)
  return Split(
    name=name,
    size=len(images),
    channels=images.shape[-1],
    num_classes=len(class_names) if class_names else None,
    class_names=class_names,
    image_shape=(images.shape[1], images.shape[2]),
    labels=labels,
    reader=readers.InMemory(images, labels),
  )


def source_from_arrays(
  images: np.ndarray,
  labels: np.ndarray | None = None,
  *,
  test_images: np.ndarray | None = None,
  test_labels: np.ndarray | None = None,
  class_names: Sequence[str] | None = None,
  name: str = 'arrays',
) -> Source:
  """Returns a data source of images in memory.

  Args:
    images: uint8 [n, height, width, 1 or 3].
    labels: integers [n] from 0 on, -1 for an image without one, or None.
    test_images: of the test split; None: a fifth of every class of the labeled
      images, chosen by us, takes its place, and without labels nothing does.
    test_labels: of the test images.
    class_names: one a label; None: their numbers.
    name: of the source, as printed.

  Raises:
    Error: the arrays are no images, or do not fit together.
  """

  def checked(images, labels, what):
    images = np.asarray(images)
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
      raise Error(
        f'{what}images are {images.dtype} of shape {images.shape}: they must '
        'be uint8 [n, height, width, 1 or 3]'
      )
    if images.shape[-1] not in (1, 3):
      raise Error(
        f'{what}images have {images.shape[-1]} channels: they must have 1 or 3'
      )
    if labels is None:
      return images, None
    labels = np.asarray(labels)
    if labels.shape != images.shape[:1]:
      raise Error(
        f'{what}labels have shape {labels.shape}, for {len(images)} images'
      )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < -1:
      raise Error(
        f'{what}labels must be integers from 0 on, or -1 for an image without'
      )
    return images, labels if labels.max() >= 0 else None

  images, labels = checked(images, labels, '')
  names = None
  if labels is not None:
    count = int(labels.max()) + 1
    names = tuple(map(str, class_names or range(count)))
    if len(names) < count:
      raise Error(f'label {count - 1} has no name: there are {len(names)}')
  if test_images is not None:
    test_images, test_labels = checked(test_images, test_labels, 'test ')
    if test_images.shape[1:] != images.shape[1:]:
      raise Error(
        f'test images are of shape {test_images.shape[1:]}, the others of '
        f'{images.shape[1:]}'
      )
    test = from_arrays(f'{name} test', test_images, test_labels, names)
    return Source(
      name, from_arrays(f'{name} train', images, labels, names), test
    )
  whole = from_arrays(name, images, labels, names)
  if labels is None:
    return Source(name, whole, None)
  train_ids, test_ids = hold_out(labels)
  return Source(
    name,
    subset(whole, train_ids, 'train'),
    subset(whole, test_ids, 'test') if len(test_ids) else None,
  )
