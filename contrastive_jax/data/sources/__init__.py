"""Where images come from, one module a kind, found by the name's prefix.

A module has `SPEC`, how its sources are written, and `load(where, *, channels)
-> Source`, where `where` is what follows the colon. Adding a kind of source is
adding a file; `package.module:WHERE` is one outside of this package. What
begins with an underscore is no source but a part of one.
"""

import difflib
import importlib
import inspect
import pathlib
import pkgutil
from collections.abc import Sequence
from typing import Any

from contrastive_jax.config import Error
from contrastive_jax.data import survey
from contrastive_jax.data.split import Source

_IN_MEMORY = '; images in memory are given from Python (source=)'


def names() -> list[str]:
  """Returns the kinds of sources there are, by their prefixes."""
  modules = pkgutil.iter_modules(__path__)
  return [module.name for module in modules if module.name[0] != '_']


def load(
  spec: str,
  *,
  channels: int | None = None,
  background: Sequence[float] = (1.0,),
  maximum: float = 0.0,
  training: bool = True,
  **options: Any,
) -> Source:
  """Opens a data source.

  Args:
    spec: `digits`, `folder:PATH`, `csv:FILE`, `pairs:FILE`, `tar:PATTERN`,
      `arrays:FILE`, `idx:PATH`, `tfds:NAME`, or `package.module:WHERE` of your
      own.
    channels: None takes what the source has (files: 3, unless they have others
      than gray and RGB). Gray images are repeated to 3 channels; color becomes
      1 by ITU-R 601 luma; there is no way to other numbers.
    background: what shows through alpha, a gray or RGB in [0, 1].
    maximum: the white of images of more than 8 bits; 0: see `scaling`.
    training: whether the images are to be trained on. Others may be a single
      one, or all of a test split, of any class.
    **options: for the kind of source, such as data_dir of TFDS.

  Returns:
    The source, with the splits `train` and `test`.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  if channels is not None and channels < 1:
    raise Error(f'channels must be 1 or more, not {channels}')
  kind, colon, where = spec.partition(':')
  if '.' in kind and where:
    module = importlib.import_module(kind)
  elif kind in names() and (bool(where) == bool(colon)):
    module = importlib.import_module(f'{__name__}.{kind}')
  else:
    raise Error(
      f"unknown data source '{spec}'; known are {', '.join(specs())}"
      + _hint(spec, kind)
      + _IN_MEMORY
    )
  if bool(where) != (':' in module.SPEC):
    in_memory = _IN_MEMORY if spec == 'arrays' else ''
    raise Error(f"unknown data source '{spec}'; it is {module.SPEC}{in_memory}")
  # A kind that has the values at hand settles what is white itself; others
  # have nothing that only training asks for.
  takes = inspect.signature(module.load).parameters
  for name, value in (('maximum', maximum), ('training', training)):
    if name in takes:
      options[name] = value
  source = module.load(where, channels=channels, **options)
  if source.modality == 'images':
    source = survey.settled(source, channels, tuple(background), maximum)
  return source


def specs() -> list[str]:
  """Returns how the sources are written: ['digits', 'folder:PATH', ...]."""
  return [
    importlib.import_module(f'{__name__}.{name}').SPEC for name in names()
  ]


def _hint(spec: str, kind: str) -> str:
  path = pathlib.Path(spec)
  kinds = {'.csv': 'csv', '.parquet': 'csv', '.npz': 'arrays', '.npy': 'arrays'}
  kinds |= {'.tar': 'tar', '.txt': 'text'}
  if path.is_dir() or (path.suffix in kinds and path.exists()):
    return f'; did you mean {kinds.get(path.suffix, "folder")}:{spec}?'
  near = difflib.get_close_matches(kind, names(), n=1)
  return f'; did you mean {near[0]}?' if near and near[0] != kind else ''
