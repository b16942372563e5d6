"""The splits of a data source, and how they are divided."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data import pixels, readers, scaling

_HOLD_OUT = 0.2  # share of each class, where a source comes without a test
_HOLD_OUT_SEED = 0
# Of arrays whose channels may have been put first.
_FEW_CHANNELS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """One split of a source. Example ids are 0..size-1, in a fixed order.

  Attributes:
    name: as printed, 'digits train'.
    size: number of examples.
    channels: of the delivered images.
    num_classes: None where there are no labels.
    class_names: None where there are no labels.
    image_shape: (height, width) when all are equal and known up front.
    labels: int32 [size]; None without labels, and where TFDS's are too many
      to be held.
    reader: how to get at the pixels, see `readers`; of text, `texts.Texts`.
    paths: of the files, where there are files.
    keys: what else tells the examples apart: names in an archive, a partner.
    captions: a text beside each image; None: there are none. '' is none of one.
    maximum: the white of images of more than 8 bits, which are delivered as
      float32 in [0, 1] (see `scaling`); 0: they are uint8.
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
  keys: tuple[str, ...] | None = None
  captions: tuple[str, ...] | None = None
  maximum: float = 0.0

  @property
  def dtype(self) -> type[np.generic]:
    """Of the delivered images."""
    return np.float32 if self.maximum else np.uint8

  def describe(self, example_id: int) -> str:
    """Returns the path of an example, or 'digits train #12'."""
    if self.paths is not None:
      # A name need not be UTF-8, and has to be printed.
      path = os.fsencode(self.paths[example_id])
      return path.decode('utf-8', 'backslashreplace')
    if self.keys is not None:
      return self.keys[example_id]
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
  if split.paths is None or len(set(split.paths)) == split.size:
    train_ids, test_ids = hold_out(labels, share)
  else:
    # An image with several texts is on one side.
    _, first, image_of = np.unique(
      split.paths, return_index=True, return_inverse=True
    )
    train_ids, test_ids = (
      np.flatnonzero(np.isin(image_of, images))
      for images in hold_out(labels[first], share)
    )
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
    keys=split.keys and tuple(split.keys[i] for i in ids),
    captions=split.captions and tuple(split.captions[i] for i in ids),
    reader=split.reader.subset(ids),
  )


def from_arrays(
  name: str,
  images: np.ndarray,
  labels: np.ndarray | None,
  class_names: tuple[str, ...] | None,
  channels: int | None = None,
  maximum: float = 0.0,
) -> Split:
  """Makes a split of decoded images.

  Args:
    name: of the split.
    images: uint8, uint16 or float32 [n, height, width, channels].
    labels: integers [n], or None.
    class_names: one a label.
    channels: that are wanted, see `sources.load`; None: those there are.
    maximum: the white of uint16 and float32, see `scaling`.

  Raises:
    Error: there is no way to the channels that are wanted.
  """
  try:
    images = pixels.with_channels(images, channels)
  except Error as error:
    raise Error(f'{name} has images of {error}') from error
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
    reader=readers.InMemory(images, labels, maximum),
    maximum=maximum,
  )


def source_from_arrays(
  images: np.ndarray,
  labels: np.ndarray | None = None,
  *,
  test_images: np.ndarray | None = None,
  test_labels: np.ndarray | None = None,
  class_names: Sequence[str] | None = None,
  name: str = 'arrays',
  channels: int | None = None,
  maximum: float = 0.0,
) -> Source:
  """Returns a data source of images in memory.

  Args:
    images: uint8, uint16 or float [n, height, width, channels], any number of
      these, or [n, height, width]. A fourth channel is not taken for alpha.
    labels: integers [n] from 0 on, -1 for an image without one, or None.
    test_images: of the test split; None: a fifth of every class of the labeled
      images, chosen by us, takes its place, and without labels nothing does.
    test_labels: of the test images.
    class_names: one a label; None: their numbers.
    name: of the source, as printed.
    channels: that are wanted, see `sources.load`; None: those there are.
    maximum: the value of uint16 or float images that is white; 0: by the rule
      of `scaling`, which a note of the source says.

  Raises:
    Error: the arrays are no images, or do not fit together.
  """
  images, labels = _checked(images, labels, '')
  white, notes = _white(images, maximum, name)
  make = functools.partial(from_arrays, channels=channels, maximum=white)
  names = None
  if labels is not None:
    count = int(labels.max()) + 1
    names = tuple(map(str, class_names or range(count)))
    if len(names) < count:
      raise Error(f'label {count - 1} has no name: there are {len(names)}')
  if test_images is not None:
    test_images, test_labels = _checked(test_images, test_labels, 'test ')
    for what in ('dtype', 'shape'):
      theirs, ours = getattr(test_images, what), getattr(images, what)
      if what == 'shape':
        theirs, ours = theirs[1:], ours[1:]
      if theirs != ours:
        raise Error(f'test images are of {what} {theirs}, the others of {ours}')
    _white(test_images, white, f'{name} test')
    test = make(f'{name} test', test_images, test_labels, names)
    train = make(f'{name} train', images, labels, names)
    return Source(name, train, test, notes=notes)
  if test_labels is not None:
    raise Error('there are test labels and no test images')
  whole = make(name, images, labels, names)
  if labels is None:
    return Source(name, whole, None, notes=notes)
  train_ids, test_ids = hold_out(labels)
  return Source(
    name,
    subset(whole, train_ids, 'train'),
    subset(whole, test_ids, 'test') if len(test_ids) else None,
    notes=notes,
  )


def _checked(
  images: Any, labels: Any, what: str
) -> tuple[np.ndarray, np.ndarray | None]:
  """Returns images [n, height, width, channels] and labels that fit to them."""
  images = np.asarray(images)
  if images.dtype.kind == 'f':
    images = images.astype(np.float32, copy=False)
  is_image = images.dtype in (np.uint8, np.uint16, np.float32)
  if images.ndim not in (3, 4) or not is_image or not images.size:
    raise Error(
      f'{what}images are {images.dtype} of shape {images.shape}: they must be '
      f'{scaling.KINDS}, [n, height, width, channels] or [n, height, width]'
    )
  if images.ndim == 3:
    images = images[..., None]
  _, first, second, last = images.shape
  if first <= _FEW_CHANNELS < last == second:
    raise Error(
      f'{what}images are of shape {images.shape}, which looks like [n, '
      'channels, height, width]: np.moveaxis(images, 1, -1) is what is wanted'
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


def _white(
  images: np.ndarray, maximum: float, name: str
) -> tuple[float, tuple[str, ...]]:
  """Returns the white of images, and a note; 0 of uint8."""
  try:
    values = scaling.seen(images)
  except Error as error:
    raise Error(f'{name}: {error}') from error
  if values is None:
    return 0.0, ()
  white, note = scaling.white(values, maximum, name)
  return white, (note,)
