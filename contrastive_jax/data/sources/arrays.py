"""The data source arrays:FILE: images in a file of NumPy, .npz or .npy."""

import pathlib
import zipfile
from typing import Any

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.split import Source, source_from_arrays

SPEC = 'arrays:FILE'

_KEYS = ('images', 'labels', 'test_images', 'test_labels')


def load(
  where: str, *, channels: int | None = None, maximum: float = 0.0
) -> Source:
  """Opens a .npz with images and perhaps labels, test_images, test_labels.

  A .npy is images alone. What they may be: `split.source_from_arrays`.

  Args:
    where: path of the file.
    channels: as of `sources.load`.
    maximum: the white of images of more than 8 bits; 0: see `scaling`.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  spec, path = f'arrays:{where}', pathlib.Path(where).expanduser()
  if not path.is_file():
    raise MissingError(f'{spec}: there is no file {path}')
  arrays = _read(spec, path)
  others = [key for key in arrays if key not in _KEYS]
  if others or 'images' not in arrays:
    raise Error(
      f'{spec} has the arrays {", ".join(arrays) or "(none)"}: they are named '
      + ', '.join(_KEYS)
      + ', of which only images has to be there'
    )
  try:
    source = source_from_arrays(
      arrays.pop('images'),
      arrays.pop('labels', None),
      **arrays,
      name=spec,
      channels=channels,
      maximum=maximum,
    )
  except Error as error:
    text = str(error)
    raise Error(text if spec in text else f'{spec}: {text}') from error
  return source._replace(notes=(*_notes(source), *source.notes))


def _read(spec: str, path: pathlib.Path) -> dict[str, Any]:
  """Returns the arrays of a file, by name."""
  try:
    with open(path, 'rb') as file:
      # Pickles are refused: they run code.
      loaded = np.load(file, allow_pickle=False)
      return {'images': loaded} if path.suffix == '.npy' else dict(loaded)
  except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
    raise Error(f'{spec} cannot be read: {error}') from error


def _notes(source: Source) -> tuple[str, ...]:
  train, test = source.train, source.test
  height, width = train.image_shape or (0, 0)
  images = f'{train.size + (test.size if test else 0):,} images'
  text = f'{source.name}: {images} of {width} x {height} pixels'
  if test is None:
    text += ', there is no test split'
  elif train.num_classes and ', test' in test.name:
    text += (
      '; a fifth of every class takes the place of a test split (our choice)'
    )
  else:
    text += f'; trained on {train.size:,}, tested on {test.size:,}'
  if train.channels not in (1, 3):
    text += f'; {train.channels} channels, taken as they are: none is alpha'
  return (text,)
