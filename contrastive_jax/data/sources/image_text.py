"""The data source image_text:FOLDER: a .txt beside each image.

Names that are the same but for the suffix belong together: cat.jpg, cat.txt.
The text is the first line that is not empty.
"""

import dataclasses
import pathlib

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.sources import _files, _scan
from contrastive_jax.data.split import Source, Split

SPEC = 'image_text:FOLDER'

_TEST = 0.1  # share of the images that is not trained on
_SEED = 0


def load(where: str, *, channels: int | None = None) -> Source:
  """Opens a folder of images with texts.

  A fixed tenth is the test split (ours). Images without a text are left out and
  counted. Ids count the sorted relative paths.

  Args:
    where: path of the folder.
    channels: as of `sources.load`.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  spec, root = f'image_text:{where}', pathlib.Path(where).expanduser()
  if not root.is_dir():
    raise MissingError(f'{spec}: there is no folder {root}')
  found = _scan.scan(root)
  paths, captions = [], []
  for path in found.images:
    if caption := _caption(spec, (root / path).with_suffix('.txt')):
      paths.append(path)
      captions.append(caption)
  if len(paths) < 2:
    raise Error(
      f'{spec}: {len(paths)} of {len(found.images):,} images have a text '
      'beside them, at least 2 are needed'
    )
  trained, tested = hold_out(paths)

  def split(name: str, ids: np.ndarray) -> Split:
    made = _files.split(
      f'{spec} {name}', root, [paths[i] for i in ids], None, None, channels or 3
    )
    return with_captions(made, [captions[i] for i in ids])

  notes = [
    f'{spec}: {len(paths):,} images with a text, trained on {len(trained):,}, '
    f'tested on {len(tested):,} (a tenth, our choice)'
  ]
  if without := len(found.images) - len(paths):
    notes.append(f'left out: {without:,} images without a text beside them')
  return Source(
    spec,
    split('train', trained),
    split('test', tested),
    notes=tuple(map(_scan.shown, notes)),
  )


def hold_out(paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the rows to train on and to test on, all of an image on one side.

  Args:
    paths: of the image of each row.
  """
  every = sorted(set(paths))
  rng = np.random.default_rng(_SEED)
  count = max(1, round(_TEST * len(every)))
  chosen = set(rng.choice(every, count, replace=False).tolist())
  tested = np.array([path in chosen for path in paths])
  return np.flatnonzero(~tested), np.flatnonzero(tested)


def with_captions(split: Split, captions: list[str]) -> Split:
  """Returns a split of images with their texts.

  Args:
    split: of images.
    captions: one an id.
  """
  # What tells examples apart are both: two may be of one image.
  return dataclasses.replace(
    split, captions=tuple(captions), keys=tuple(captions)
  )


def _caption(spec: str, path: pathlib.Path) -> str:
  if not path.is_file():
    return ''
  try:
    lines = path.read_text(encoding='utf-8-sig').splitlines()
  except (UnicodeDecodeError, OSError) as error:
    raise Error(f'{spec}: {path} cannot be read as UTF-8: {error}') from error
  return next((line.strip() for line in lines if line.strip()), '')
