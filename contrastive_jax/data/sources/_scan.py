"""Which images are in a folder, and what is passed over there, and why."""

import collections
import os
from typing import NamedTuple

from contrastive_jax.data.sources import _layout

EXTENSIONS = (
  *('.jpg', '.jpeg', '.png', '.webp'),
  *('.tif', '.tiff', '.bmp', '.gif'),
)

# What systems and network drives put beside a user's files: thumbnails, bins.
_OF_SYSTEMS = (
  '__macosx',
  '@eadir',
  '@__thumb',
  '@recycle',
  '@recently-snapshot',
  '#recycle',
  '#snapshot',
  '~snapshot',
  '$recycle.bin',
  'recycler',
  'lost+found',
  'system volume information',
  'thumbnails',
  'thumbs',
)
_NAMED = 3  # examples that are named of each reason


class Found(NamedTuple):
  """What is in a folder.

  Attributes:
    images: relative paths, sorted.
    folders: relative paths of all that were looked into, sorted.
    passed_over: reason -> relative paths, in the order of the reasons.
  """

  images: list[str]
  folders: list[str]
  passed_over: dict[str, list[str]]

  def of_suffix(self) -> str:
    """Returns '28 .png, 2 .jpg'."""
    return _counts(_suffix(p) for p in self.images)

  def left_out(self) -> str:
    """Returns '3 .txt; broken links: 1 (cat/a.jpg)', or ''."""
    parts = []
    for reason, paths in self.passed_over.items():
      if reason == _OTHER:
        parts.append(_counts(map(_suffix, paths)))
        continue
      named = ', '.join(map(shown, paths[:_NAMED]))
      more = ', ...' if len(paths) > _NAMED else ''
      parts.append(f'{reason}: {len(paths):,} ({named}{more})')
    return '; '.join(parts)

  def without_images(self) -> list[str]:
    """Returns the folders, some of them, that hold no image at any depth."""
    some = {''}
    for path in self.images:
      while path := os.path.dirname(path):
        some.add(path)
    empty = [f for f in self.folders if f not in some]
    empty = [f for f in empty if os.path.dirname(f) in some]
    more = ['...'] if len(empty) > _NAMED else []
    return [*(f'{shown(f)}/' for f in empty[:_NAMED]), *more]


_OTHER = 'of another suffix'
_HIDDEN = 'hidden'
_SYSTEM = 'thumbnails and bins of a system'
_UNREADABLE = 'folders that cannot be read'
_BROKEN = 'broken links'
_NO_FILE = 'neither files nor folders'
_KNOWN = 'links to what is here already'
_AROUND = 'links to a folder around this one'
_REASONS = (
  *(_OTHER, _HIDDEN, _SYSTEM, _UNREADABLE),
  *(_BROKEN, _NO_FILE, _KNOWN, _AROUND),
)


def scan(root: str | os.PathLike) -> Found:
  """Looks for images below a folder.

  Every file counts once, under its own name if it lies below the folder. Only
  then links are followed, those of a training split before those of a test
  split: what is trained on is not taken away by a link, and no image is on
  both sides.

  Args:
    root: an existing folder.
  """
  return _Scan(os.fspath(root)).found()


def shown(path: str) -> str:
  r"""Returns a path that can be printed: bytes that are no UTF-8 as `\xff`."""
  return os.fsencode(path).decode('utf-8', 'backslashreplace')


class _Scan:
  """The state of one scan."""

  def __init__(self, root: str):
    self._root = root
    self._real_root = os.path.realpath(root)
    self._seen: set[str] = set()  # real paths of folders, and of linked files
    self._images: list[str] = []
    self._folders: list[str] = []
    self._folder_links: list[str] = []
    self._file_links: list[str] = []
    self._passed: dict[str, list[str]] = collections.defaultdict(list)

  def found(self) -> Found:
    self._walk('')
    while self._folder_links:
      self._folder_links.sort(key=_training_first, reverse=True)
      self._follow_folder(self._folder_links.pop())
    for path in sorted(
      self._file_links, key=lambda p: (_training_first(os.path.dirname(p)), p)
    ):
      self._follow_file(path)
    passed = {r: sorted(self._passed[r]) for r in _REASONS if self._passed[r]}
    return Found(sorted(self._images), sorted(self._folders), passed)

  def _walk(self, top: str) -> None:
    """Takes what lies below a folder, and remembers the links."""
    pending = [top]
    while pending:
      folder = pending.pop()
      full = os.path.join(self._root, folder)
      if (real := os.path.realpath(full)) in self._seen:
        self._passed[_KNOWN].append(folder)
        continue
      try:
        with os.scandir(full) as entries:
          entries = list(entries)
      except OSError:
        self._passed[_UNREADABLE].append(f'{folder}/')
        continue
      self._seen.add(real)
      self._folders.append(folder)
      for entry in entries:
        path = f'{folder}/{entry.name}' if folder else entry.name
        if self._is_left_out(entry.name, path):
          continue
        if entry.is_symlink():
          self._remember_link(path)
        elif entry.is_dir():
          pending.append(path)
        elif entry.is_file():
          self._take(path)
        else:
          self._passed[_NO_FILE].append(path)

  def _is_left_out(self, name: str, path: str) -> bool:
    reason = None
    if name.lower() in _OF_SYSTEMS or name.lower() == '.thumbnails':
      reason = _SYSTEM
    elif name.startswith('.'):
      reason = _HIDDEN
    if reason:
      self._passed[reason].append(path)
    return reason is not None

  def _take(self, path: str) -> None:
    if _suffix(path) in EXTENSIONS:
      self._images.append(path)
    else:
      self._passed[_OTHER].append(path)

  def _remember_link(self, path: str) -> None:
    full = os.path.join(self._root, path)
    if os.path.isdir(full):
      self._folder_links.append(path)
    elif os.path.isfile(full):
      self._file_links.append(path)
    else:
      self._passed[_BROKEN].append(path)

  def _follow_folder(self, path: str) -> None:
    real = os.path.realpath(os.path.join(self._root, path))
    if real in self._seen:
      self._passed[_KNOWN].append(path)
    elif self._real_root.startswith(os.path.join(real, '')):
      self._passed[_AROUND].append(path)
    else:
      self._walk(path)

  def _follow_file(self, path: str) -> None:
    real = os.path.realpath(os.path.join(self._root, path))
    folder, name = os.path.split(real)
    by_its_name = (
      folder in self._seen
      and _suffix(name) in EXTENSIONS
      and not name.startswith('.')
    )
    if by_its_name or real in self._seen:
      self._passed[_KNOWN].append(path)
      return
    self._seen.add(real)
    self._take(path)


def _training_first(path: str) -> tuple[bool, str]:
  kinds = map(_layout.kind_of, path.split('/'))
  return any(kind in ('test', 'val') for kind in kinds), path


def _suffix(path: str) -> str:
  return os.path.splitext(path)[1].lower()


def _counts(suffixes) -> str:
  """Returns '28 .png, 2 without a suffix', the most frequent first."""
  counts = collections.Counter(suffixes).most_common()
  shown_ = [f'{n:,} {shown(s) or "without a suffix"}' for s, n in counts[:8]]
  rest = sum(n for _, n in counts[8:])
  return ', '.join(shown_ + ([f'{rest:,} others'] if rest else []))
