"""The data source idx:PATH: files of the MNIST format, plain or .gz."""

import gzip
import pathlib

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.split import Source, Split, from_arrays

SPEC = 'idx:PATH'


def load(where: str, *, channels: int | None = None) -> Source:
  """Opens a folder of MNIST-format files; labels and t10k are optional.

  Args:
    where: path of the folder.
    channels: 1, 3, or None for the 1 that they have.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  spec, folder = f'idx:{where}', pathlib.Path(where).expanduser()
  if not folder.is_dir():
    raise MissingError(f'{spec}: there is no folder {folder}')

  def find(name: str) -> pathlib.Path | None:
    files = (folder / name, folder / f'{name}.gz')
    return next((f for f in files if f.is_file()), None)

  splits: list[Split | None] = []
  notes = []
  for split, prefix in (('train', 'train'), ('test', 't10k')):
    path = find(f'{prefix}-images-idx3-ubyte')
    if path is None:
      splits.append(None)
      notes.append(f'no {split} split: there is no {prefix}-images-idx3-ubyte')
      continue
    images = _read_idx(path, 3)[..., None]
    path = find(f'{prefix}-labels-idx1-ubyte')
    labels = None if path is None else _read_idx(path, 1)
    if labels is not None and len(labels) != len(images):
      raise Error(
        f'{spec}: {len(images)} {split} images but {len(labels)} labels'
      )
    names = None
    if labels is None:
      name = f'{prefix}-labels-idx1-ubyte'
      notes.append(f'no labels of the {split} images: there is no {name}')
    else:
      names = tuple(str(i) for i in range(int(labels.max()) + 1))
    splits.append(
      from_arrays(f'{spec} {split}', images, labels, names, channels)
    )
  train, test = splits
  if train is None:
    raise MissingError(
      f'{spec}: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in'
      f' {folder}'
    )
  return Source(spec, train, test, notes=tuple(notes))


def _read_idx(path: pathlib.Path, dims: int) -> np.ndarray:
  """Reads one file of the MNIST format: uint8, big-endian sizes, magic."""
  opener = gzip.open if path.suffix == '.gz' else open
  try:
    with opener(path, 'rb') as f:
      raw = f.read()
  except (OSError, EOFError) as error:
    raise Error(f'{path} cannot be read: {error}') from error
  magic, header = 0x0800 + dims, 4 + 4 * dims
  found = int.from_bytes(raw[:4], 'big')
  if len(raw) < header or found != magic:
    raise Error(
      f'{path} starts with {found:#010x}, not with the {magic:#010x} of an'
      f' idx{dims}-ubyte file'
    )
  shape = np.frombuffer(raw, '>u4', dims, 4).astype(int)
  if len(raw) - header != shape.prod():
    raise Error(
      f'{path} promises {shape.prod()} bytes of data and holds'
      f' {len(raw) - header}'
    )
  return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
