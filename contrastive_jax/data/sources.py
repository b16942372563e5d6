"""Where images come from: digits, idx:PATH, folder:PATH, tfds:NAME."""

import dataclasses
import gzip
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

KINDS = ('digits', 'idx:PATH', 'folder:PATH', 'tfds:NAME')
_HOLD_OUT = 0.2  # share of each class, where a source comes without a test
_HOLD_OUT_SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """One split of a source. Example ids are 0..size-1, in a fixed order.

  Exactly one of `images`, `read`, `stream` says how to get at the pixels.

  Attributes:
    name: as printed, 'digits train'.
    size: number of examples.
    channels: of the delivered images, 1 or 3.
    num_classes: None where there are no labels.
    class_names: None where there are no labels.
    image_shape: (height, width) when all are equal and known up front.
    labels: int32 [size]; None without labels, and where TFDS's are too many
      to be held.
    images: uint8 [size, height, width, channels], decoded.
    read: id (int32 tensor) -> (encoded file, label), string and int32
      tensors; random access.
    stream: (order of shards, how many to read side by side) ->
      tf.data.Dataset of (id, encoded file, label); in id order for 0, 1, ...
      and one at a time.
    shards: number of files of a stream.
    paths: of the files, where there are files.
  """

  name: str
  size: int
  channels: int
  num_classes: int | None = None
  class_names: tuple[str, ...] | None = None
  image_shape: tuple[int, int] | None = None
  labels: np.ndarray | None = None
  images: np.ndarray | None = None
  read: Callable[[Any], Any] | None = None
  stream: Callable[[Any, int], Any] | None = None
  shards: int = 0
  paths: tuple[str, ...] | None = None

  def describe(self, example_id: int) -> str:
    """Returns the path of an example, or 'digits train #12'."""
    if self.paths is not None:
      return self.paths[example_id]
    return f'{self.name} #{example_id}'


class Source(NamedTuple):
  """The splits of a data source; `test` is None where there is none."""

  name: str
  train: Split
  test: Split | None


def load(
  spec: str, *, channels: int | None = None, data_dir: str | None = None
) -> Source:
  """Opens a data source.

  Args:
    spec: `digits`, `idx:PATH`, `folder:PATH` or `tfds:NAME`.
    channels: 1 or 3; None takes what the source has (folders: 3). Grey images
      are repeated to 3 channels; colour becomes 1 by ITU-R 601 luma.
    data_dir: where TFDS keeps its data; None is TFDS's own default.

  Returns:
    The source, with the splits `train` and `test`.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  if channels not in (None, 1, 3):
    raise ValueError(f'channels must be 1 or 3, not {channels}')
  kind, _, where = spec.partition(':')
  if kind == 'digits' and not where:
    return _digits(channels)
  if kind == 'idx' and where:
    return _idx(spec, pathlib.Path(where).expanduser(), channels)
  if kind == 'folder' and where:
    from contrastive_jax.data import folder_source  # imports TensorFlow

    return folder_source.load(where, channels=channels)
  if kind == 'tfds' and where:
    from contrastive_jax.data import tfds_source

    return tfds_source.load(where, channels=channels, data_dir=data_dir)
  raise ValueError(
    f"unknown data source '{spec}'; known are {', '.join(KINDS)}"
  )


def hold_out(
  labels: np.ndarray, share: float = _HOLD_OUT
) -> tuple[np.ndarray, np.ndarray]:
  """Splits ids into train and test: a fixed fifth of every class is test.

  The choice is ours (seeded by a constant), not one of the data's authors.

  Args:
    labels: int [n].
    share: of every class that is test.

  Returns:
    Sorted ids of train and of test.
  """
  rng = np.random.default_rng(_HOLD_OUT_SEED)
  test = []
  for label in np.unique(labels):
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
    raise ValueError(
      f'holding out {share:g} of {split.size} images leaves '
      f'{len(train_ids)} to train on and {len(test_ids)} held out'
    )
  return Source(
    source.name,
    subset(split, train_ids, 'less those held out'),
    subset(split, test_ids, 'held out'),
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
    images=None if split.images is None else split.images[ids],
    paths=split.paths and tuple(split.paths[i] for i in ids),
    read=split.read and _read_of(split.read, ids),
    stream=split.stream and _stream_of(split.stream, split.size, ids),
  )


def _read_of(read: Callable, ids: np.ndarray) -> Callable:
  from contrastive_jax.data.decode import tf  # slow to import

  table = tf.constant(ids, tf.int32)
  return lambda i: read(table[i])


def _stream_of(stream: Callable, size: int, ids: np.ndarray) -> Callable:
  from contrastive_jax.data.decode import tf

  numbers = np.full(size, -1)
  numbers[ids] = np.arange(len(ids))
  numbers = tf.constant(numbers, tf.int32)

  def chosen(order, cycle):
    dataset = stream(order, cycle).filter(lambda i, *_: numbers[i] >= 0)
    return dataset.map(lambda i, *rest: (numbers[i], *rest))

  return chosen


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
  if labels is None:
    class_names = None
  return Split(
    name=name,
    size=len(images),
    channels=images.shape[-1],
    num_classes=len(class_names) if class_names else None,
    class_names=class_names,
    image_shape=(images.shape[1], images.shape[2]),
    labels=None if labels is None else labels.astype(np.int32),
    images=np.ascontiguousarray(images),
  )


def _digits(channels: int | None) -> Source:
  """1,797 handwritten digits, 8x8, from scikit-learn; split 80/20 by us."""
  import sklearn.datasets  # slow to import, and only needed here

  data: Any = sklearn.datasets.load_digits()
  images = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
  names = tuple(str(i) for i in range(10))
  train, test = (
    from_arrays(f'digits {s}', images[i], data.target[i], names, channels)
    for s, i in zip(('train', 'test'), hold_out(data.target), strict=True)
  )
  return Source('digits', train, test)


def _read_idx(path: pathlib.Path, dims: int) -> np.ndarray:
  """Reads one file of the MNIST format: uint8, big-endian sizes, magic."""
  opener = gzip.open if path.suffix == '.gz' else open
  try:
    with opener(path, 'rb') as f:
      raw = f.read()
  except (OSError, EOFError) as error:
    raise ValueError(f'{path} cannot be read: {error}') from error
  magic, header = 0x0800 + dims, 4 + 4 * dims
  found = int.from_bytes(raw[:4], 'big')
  if len(raw) < header or found != magic:
    raise ValueError(
      f'{path} starts with {found:#010x}, not with the {magic:#010x} of an'
      f' idx{dims}-ubyte file'
    )
  shape = np.frombuffer(raw, '>u4', dims, 4).astype(int)
  if len(raw) - header != shape.prod():
    raise ValueError(
      f'{path} promises {shape.prod()} bytes of data and holds'
      f' {len(raw) - header}'
    )
  return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _idx(spec: str, folder: pathlib.Path, channels: int | None) -> Source:
  """MNIST-format files; labels and the t10k files are optional."""
  if not folder.is_dir():
    raise FileNotFoundError(f'{spec}: there is no folder {folder}')

  def find(name: str) -> pathlib.Path | None:
    files = (folder / name, folder / f'{name}.gz')
    return next((f for f in files if f.is_file()), None)

  splits: list[Split | None] = []
  for split, prefix in (('train', 'train'), ('test', 't10k')):
    path = find(f'{prefix}-images-idx3-ubyte')
    if path is None:
      splits.append(None)
      continue
    images = _read_idx(path, 3)[..., None]
    path = find(f'{prefix}-labels-idx1-ubyte')
    labels = None if path is None else _read_idx(path, 1)
    if labels is not None and len(labels) != len(images):
      raise ValueError(
        f'{spec}: {len(images)} {split} images but {len(labels)} labels'
      )
    names = None
    if labels is not None:
      names = tuple(str(i) for i in range(int(labels.max()) + 1))
    splits.append(
      from_arrays(f'{spec} {split}', images, labels, names, channels)
    )
  train, test = splits
  if train is None:
    raise FileNotFoundError(
      f'{spec}: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in'
      f' {folder}'
    )
  return Source(spec, train, test)
