"""The data source folder:PATH: images in a folder, nested or flat.

Which files are images is said by `_scan`, what the folders' names mean by
`_layout`; what was found and decided stands in the notes of the source.
"""

import pathlib

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.sources import _files, _layout, _scan
from contrastive_jax.data.split import Source, Split, hold_out

SPEC = 'folder:PATH'


def load(
  path: str, *, channels: int | None = None, training: bool = True
) -> Source:
  """Opens a folder of image files, by their suffixes (`_scan.EXTENSIONS`).

  A folder that all images lie in is entered. Folders with the name of a split
  (train, Training, train2017, val, valid_images, test, dev, unlabeled, ...) are
  splits and never classes; other folders, two or more side by side, are
  classes. A few images beside the folders, up to a tenth, are left out; with
  more of them there are no labels. Without a test folder, a labeled folder
  gives up a fixed fifth of every class (ours, see `hold_out`); an unlabeled one
  has no test. Ids count the sorted relative paths. The source's notes say all
  of that, and what was passed over.

  Args:
    path: of the folder.
    channels: as of `sources.load`; None is 3, unless most files have others.
    training: as of `sources.load`.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  spec, root = f'folder:{_scan.shown(path)}', pathlib.Path(path).expanduser()
  channels = channels or 3
  if not root.is_dir():
    raise MissingError(f'{spec}: there is no folder {_scan.shown(str(root))}')
  found = _scan.scan(root)
  if not found.images:
    raise Error(
      f'{spec}: no image ({", ".join(_scan.EXTENSIONS)}) there;'
      f' there are: {found.left_out() or "no files, it is empty"}'
    )
  if training and len(found.images) < 2:
    raise Error(f'{spec}: only 1 image there, at least 2 are needed')
  try:
    layout = _layout.layout(found.images)
  except Error as error:
    raise Error(f'{spec}: {_scan.shown(str(error))}') from error
  train, test = layout.train, layout.test
  notes = [
    f'{spec}: {len(found.images):,} images ({found.of_suffix()})',
    *_labels_notes(layout),
    *layout.notes,
    *_passed_over(found, layout),
  ]
  classes = train.classes
  names = tuple(sorted(set(classes))) if classes else None
  if names and not training:
    names = tuple(sorted({*names, *((test and test.classes) or ())}))
  notes = tuple(map(_scan.shown, notes))
  if test is not None:
    return Source(
      spec,
      _files.split(
        f'{spec} train', root, train.paths, classes, names, channels
      ),
      _files.split(
        f'{spec} test', root, test.paths, test.classes, names, channels
      ),
      notes=notes,
    )
  if classes is None:
    only = _files.split(spec, root, train.paths, None, None, channels)
    return Source(spec, only, None, notes=notes)

  def part(name: str, ids: np.ndarray) -> Split:
    some = [train.paths[i] for i in ids]
    labels = [classes[i] for i in ids]
    return _files.split(f'{spec} {name}', root, some, labels, names, channels)

  numbers = np.unique(classes, return_inverse=True)[1]
  rest, held = (
    part(name, ids)
    for name, ids in zip(('train', 'test'), hold_out(numbers), strict=True)
  )
  return Source(spec, rest, held if held.size else None, notes=notes)


def _labels_notes(layout: _layout.Layout) -> list[str]:
  """Returns what is trained on and tested on, the classes, and their rule."""
  train, test = layout.train, layout.test
  if train.classes is None:
    labels = f'no labels: {train.why}'
  else:
    labels = f'{train.why} {train.folders}: {_files.counts(train.classes)}'
  if test is not None:
    splits = (
      f'trained on {train.folders} ({len(train.paths):,}), tested on '
      f'{test.folders} ({len(test.paths):,})'
    )
    if train.classes and test.classes is None:
      labels += f'; the test images have no labels: {test.why}'
  elif train.classes is None:
    splits = f'trained on all of {train.folders}, there is no test split'
  else:
    splits = (
      f'trained on {train.folders}, less a fifth of every class that takes the '
      'place of a test split (our choice)'
    )
  return [splits, labels]


def _passed_over(found: _scan.Found, layout: _layout.Layout) -> list[str]:
  """Returns a line about what is not read, if there is anything."""
  parts = [found.left_out()] if found.passed_over else []
  for part in (layout.train, layout.test):
    if part and part.beside:
      more = ', ...' if len(part.beside) > 1 else ''
      parts.append(
        f'images beside the folders: {len(part.beside):,} '
        f'({part.beside[0]}{more})'
      )
  if empty := found.without_images():
    parts.append(f'folders without images: {", ".join(empty)}')
  return [f'passed over: {"; ".join(parts)}'] if parts else []
