"""The data source folder:PATH: images in a folder, nested or flat."""

import collections
import os
import pathlib

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.decode import tf
from contrastive_jax.data.readers import RandomAccess
from contrastive_jax.data.split import Source, Split, hold_out

SPEC = 'folder:PATH'

_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp')
_TEST_FOLDERS = ('test', 'val', 'validation')


def load(path: str, *, channels: int | None = None) -> Source:
  """Opens a folder of .jpg, .jpeg, .png and .webp files (any case).

  With train/ and one of test/, val/, validation/, these are the splits.
  Labels are the first-level folders, if there are two or more and no image
  lies beside them. Without a test folder, a labeled folder gives up a fixed
  fifth of every class (ours, see `hold_out`); an unlabeled one has no test.
  Ids count the sorted relative paths.

  Args:
    path: of the folder.
    channels: 1 or 3; None is 3, whatever the files are.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  spec, root = f'folder:{path}', pathlib.Path(path).expanduser()
  channels = channels or 3
  if not root.is_dir():
    raise MissingError(f'{spec}: there is no folder {root}')
  paths, others = _find_images(root)
  if not paths:
    seen = ', '.join(f'{k} ({n})' for k, n in others.most_common(8))
    raise Error(
      f'{spec}: no image ({", ".join(_EXTENSIONS)}) in {root};'
      f' extensions there: {seen or "none, it is empty"}'
    )
  if len(paths) < 2:
    raise Error(f'{spec}: only 1 image in {root}, at least 2 are needed')

  def below(top: str) -> list[str]:
    return [p[len(top) + 1 :] for p in paths if p.startswith(f'{top}/')]

  tops = {p.split('/')[0].lower(): p.split('/')[0] for p in paths if '/' in p}
  tests = [tops[t] for t in _TEST_FOLDERS if t in tops]
  if 'train' in tops and (tests or len(below(tops['train'])) == len(paths)):
    train, train_root = below(tops['train']), root / tops['train']
    classes = _class_of(train)
    # ImageNet's test/ has no classes, but its val/ has.
    tests.sort(key=lambda t: (_class_of(below(t)) is None) != (classes is None))
    if tests:
      test, test_root = below(tests[0]), root / tests[0]
      names = tuple(sorted(set(classes))) if classes else None
      return Source(
        spec,
        _files(f'{spec} train', train_root, train, classes, names, channels),
        _files(
          f'{spec} test', test_root, test, _class_of(test), names, channels
        ),
      )
    paths, root = train, train_root
  classes = _class_of(paths)
  if classes is None:
    return Source(spec, _files(spec, root, paths, None, None, channels), None)
  names = tuple(sorted(set(classes)))

  def part(name: str, ids: np.ndarray) -> Split:
    some, labels = [paths[i] for i in ids], [classes[i] for i in ids]
    return _files(f'{spec} {name}', root, some, labels, names, channels)

  train_ids, test_ids = hold_out(np.array(classes))
  train, test = part('train', train_ids), part('test', test_ids)
  return Source(spec, train, test if test.size else None)


def _find_images(root: pathlib.Path) -> tuple[list[str], collections.Counter]:
  """Returns relative paths of the images, sorted, and other extensions seen.

  Hidden files and folders (also macOS' `._x.jpg`) and `__MACOSX` are left
  out. Links to folders are followed, each folder once.
  """
  images, others, seen = [], collections.Counter(), set()
  for folder, children, files in os.walk(root, followlinks=True):
    real = os.path.realpath(folder)
    if real in seen:
      children.clear()
      continue
    seen.add(real)
    children[:] = [
      c for c in children if not c.startswith('.') and c != '__MACOSX'
    ]
    for file in files:
      extension = os.path.splitext(file)[1].lower()
      if file.startswith('.'):
        continue
      if extension in _EXTENSIONS:
        relative = pathlib.Path(folder, file).relative_to(root)
        images.append(relative.as_posix())
      else:
        others[extension or 'none'] += 1
  return sorted(images), others


def _class_of(paths: list[str]) -> list[str] | None:
  """Returns the first-level folder of each path, if these are classes."""
  tops = [p.split('/')[0] if '/' in p else '' for p in paths]
  return tops if '' not in tops and len(set(tops)) >= 2 else None


def _files(
  name: str,
  root: pathlib.Path,
  relative: list[str],
  classes: list[str] | None,
  names: tuple[str, ...] | None,
  channels: int,
) -> Split:
  """Makes a split of image files, with labels if both sides have them."""
  labels = None
  if classes is None or names is None:
    names = None
  else:
    unknown = sorted(set(classes) - set(names))
    if unknown:
      raise Error(
        f'{name} has the class {unknown[0]}, which the train folder has not'
      )
    number = {n: i for i, n in enumerate(names)}
    labels = np.array([number[c] for c in classes], np.int32)
  paths = tuple(str(root / r) for r in relative)
  table = tf.constant(paths)
  numbers = tf.fill([len(paths)], -1) if labels is None else tf.constant(labels)
  return Split(
    name=name,
    size=len(paths),
    channels=channels,
    num_classes=len(names) if names else None,
    class_names=names,
    labels=labels,
    reader=RandomAccess(
      lambda i: (tf.io.read_file(tf.gather(table, i)), tf.gather(numbers, i)),
      len(paths),
      channels,
    ),
    paths=paths,
  )
