"""From the names of folders to splits and classes: the rules, and the notes.

1. A folder that all images lie in is entered, and so is images/ beside
   nothing but masks/, labels/ and the like, and so are parts that are only
   numbered (images_001/, images_002/).
2. Folders with the name of a split are splits, and never classes.
3. Other folders, two or more side by side, are classes. A few images beside
   them are left out; of many it is not known what they are.
"""

import collections
import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from contrastive_jax.config import Error

# Images beside the folders, up to this share of all, do not make these
# anything else than splits or classes.
_FEW = 0.1

_WORDS = {
  'train': 'train|training|trn|pretrain|pretraining|labell?ed',
  'test': 'test|tests|testing|tst',
  'val': 'val|valid|validation|validate|dev|eval|evaluation|holdout|heldout',
  'unlabeled': 'unlabell?ed|unlabel|unsup|unsupervised|nolabels?',
}
_WORD = '|'.join(_WORDS.values())
# Beside such a word these say nothing else, and neither do single letters.
_NEUTRAL = (
  'images?|imgs?|pics?|pictures?|photos?|samples?|sets?|data|datasets?|splits?'
  '|folders?|dir|files?|parts?|fold|batch|version|final|old|new|raw|full|large'
  '|small|mini|tiny|clean|cleaned|crops?|cropped|resized|jpe?gs?|pngs?|webp'
  '|rgb|gr[ae]y|color|px|hr|lr|all|of|my|the|[0-9]++'
)
# What belongs to images, beside a folder of this name, is no other class.
_IMAGES = r'(?i)(jpeg)?(images?|imgs?|pictures?|photos?|rgb|inputs?)[_-]?\d*'
_TARGETS = (
  '(?i).*(mask|label|annotation|segmentation|ground.?truth|depth|target).*'
  '|gt|seg'
)
# Numbered parts of a whole are no classes either.
_NUMBERED = (
  r'(?i)(images?|imgs?|photos?|pictures?|data|parts?|folds?|batch|shards?|chunks?'
  r'|folders?|dir|volumes?)[ ._-]?\d+'
)


@functools.cache
def kind_of(name: str) -> str | None:
  """Returns which split a folder is by its name alone.

  Args:
    name: of the folder, such as 'Train_images' or 'val2017'.

  Returns:
    'train', 'trainval', 'test', 'val', 'unlabeled', or None for a name that
    says something else: 'cat', 'trains', 'train_station'.
  """
  kind, rest = _word(name)
  if kind is None:
    return None
  neutral = re.compile(f'{_NEUTRAL}|[a-z]')
  return kind if all(neutral.fullmatch(word) for word in rest) else None


def split_kinds(names: Iterable[str]) -> dict[str, str]:
  """Returns which of some folders, side by side, are splits, and which.

  Beside what `kind_of` tells, names that differ in nothing else are splits
  (seg_train and seg_test), and all of them are if each has the word of a split
  and there are several splits (DIV2K_train_HR, DIV2K_valid_LR).

  Args:
    names: of the folders.
  """
  names = list(names)
  kinds = {name: kind for name in names if (kind := kind_of(name))}
  words = {name: _word(name) for name in names}
  alike = collections.defaultdict(list)
  for name, (kind, rest) in words.items():
    if kind is not None:
      alike[tuple(w for w in rest if not w.isdigit())].append(name)
  groups = list(alike.values())
  if all(kind for kind, _ in words.values()):
    groups.append(names)
  for group in groups:
    found = {words[name][0] for name in group}
    if found & {'train', 'trainval'} and len(found) > 1:
      kinds |= {name: words[name][0] for name in group}
  return kinds


class Part(NamedTuple):
  """A split: relative paths, sorted, and what the folders say of each.

  Attributes:
    folders: as they are said: 'train/', or 'this folder'.
    paths: relative to the root.
    classes: one a path; None where there are none.
    why: the rule that made the classes, or why there are none.
    beside: images that are left out, because they lie beside the folders.
  """

  folders: str
  paths: list[str]
  classes: list[str] | None
  why: str
  beside: list[str]


class Layout(NamedTuple):
  """The splits, and what else is said about the folders, a line each."""

  train: Part
  test: Part | None
  notes: list[str]


# A path, and what is left of it below the folders that were entered.
_Item = tuple[str, str]


def layout(paths: list[str]) -> Layout:
  """Says what the folders of some images are.

  Args:
    paths: relative, sorted, at least one.

  Raises:
    Error: the names of folders contradict each other; one sentence, that
      begins with a folder's name.
  """
  items, entered, beside = _enter([(p, p) for p in paths], '')
  tops = _tops(items)
  kinds = split_kinds(name for name in tops if name)
  if not kinds:
    train = _part(items, entered or 'this folder', beside)
    if train.classes is None:  # nothing speaks for leaving out any but masks
      masks = [p for p in train.beside if _is_target(p)]
      rest = sorted({*paths} - {*masks})
      train = train._replace(paths=rest, beside=masks)
    return Layout(train, None, [])
  return _splits(tops, kinds, entered, beside + [p for p, _ in tops['']])


def _splits(
  tops: dict[str, list[_Item]],
  kinds: dict[str, str],
  entered: str,
  beside: list[str],
) -> Layout:
  """Returns the layout of folders some of which are splits."""
  names = collections.defaultdict(list)
  for name, kind in kinds.items():
    names[kind].append(name)
  others = [name for name in tops if name and name not in kinds]
  has_train = names['train'] or names['trainval']
  has_test = names['test'] or names['val']
  if others and set(kinds.values()) == {'unlabeled'}:
    trained = others  # the classes, or the folder that has them
  elif others and not (has_train and has_test):
    raise Error(
      f'{entered}{min(kinds)}/ has the name of a split, and {others[0]}/ '
      'beside it has not: if they are classes give it another name (trains for '
      'train), else put the images into train/ and test/'
    )
  else:
    trained = names['train'] or names['trainval'] or names['unlabeled']
  if not trained:
    raise Error(
      f'{entered}{min(kinds)}/ is there and no train/: name the one to train '
      'on, as in folder:PATH/test, or rename it'
    )
  if trained == others and len(others) > 1:  # these are the classes
    items = [item for name in others for item in tops[name]]
    train = _part(items, entered or 'this folder', [])
  else:
    train = _together(tops, trained, entered)
  known = frozenset(train.classes or ())
  tests = {
    kind: _together(tops, names[kind], entered, known)
    for kind in ('test', 'val')
    # What trainval/ has of validation images is trained on.
    if names[kind] and not (kind == 'val' and trained == names['trainval'])
  }
  # ImageNet's test/ has no classes, but its val/ has.
  kind = min(
    tests,
    key=lambda k: (tests[k].classes is None) != (train.classes is None),
    default='',
  )
  notes = []
  for name in tops:
    if name and name not in (*trained, *names[kind]):
      text = f'{entered}{name}/ ({len(tops[name]):,} images) is not used'
      if kinds.get(name) == 'unlabeled':
        text += f': folder:PATH/{entered}{name} trains on it, without labels'
      notes.append(text)
  train = train._replace(beside=[*beside, *train.beside])
  return Layout(train, tests.get(kind), notes)


def _together(
  tops: dict[str, list[_Item]],
  names: list[str],
  entered: str,
  known: frozenset[str] = frozenset(),
) -> Part:
  """Returns the split of one folder, or of several (train.X1, train.X2)."""
  years = {y for n in names for y in re.findall(r'(?:19|20)\d\d', n)}
  if len(years) > 1:
    raise Error(
      f'{names[0]}/ and {names[1]}/ are of several years, which may have '
      'images in common: leave one of them in the folder'
    )
  items = [item for name in names for item in _cut(tops[name])]
  folders = ', '.join(f'{entered}{name}/' for name in names)
  return _part(*_enter(items, folders, known), known)


def _part(
  items: list[_Item],
  folders: str,
  beside: list[str],
  known: frozenset[str] = frozenset(),
) -> Part:
  """Returns a split, with classes if its folders are classes.

  A single folder is one if it has the name of a known one, of training.
  """
  tops = _tops(items)
  stray = [path for path, _ in tops.pop('')]
  paths = sorted(path for path, _ in items)
  if kinds := split_kinds(tops):
    raise Error(
      f'{folders} has the folder {min(kinds)}/, which is the name of a split: '
      'if it is a class give it another name (trains for train)'
    )
  if len(tops) < 2 and not known.intersection(tops):
    why = 'the images lie in no folders, two or more, that could be classes'
    return Part(folders, paths, None, why, beside)
  if len(stray) > _FEW * len(items):
    why = (
      f'{len(stray):,} of {len(items):,} images lie beside the '
      f'{len(tops)} folders, which are no classes then'
    )
    return Part(folders, paths, None, why, beside)
  for name, inside in tops.items():
    inner = split_kinds({n for n in _tops(_cut(inside)) if n})
    if len(set(inner.values())) > 1:
      raise Error(
        f'{name}/ has the splits {", ".join(f"{n}/" for n in sorted(inner))} '
        f'inside of it: splits come first, as in train/{name}/'
      )
  classes = {p: name for name, inside in tops.items() for p, _ in inside}
  paths = sorted(classes)
  return Part(
    folders,
    paths,
    [classes[p] for p in paths],
    'classes are the folders in',
    [*beside, *stray],
  )


def _enter(
  items: list[_Item], folders: str, known: frozenset[str] = frozenset()
) -> tuple[list[_Item], str, list[str]]:
  """Enters the folder that all images lie in, or nearly all, and so on.

  Returns:
    What lies in it, its name, and the images beside it.
  """
  beside: list[str] = []
  while True:
    tops = _tops(items)
    stray = tops.pop('')
    names = [n for n in tops if re.fullmatch(_IMAGES, n)]
    if not all(re.fullmatch(_TARGETS, n) for n in tops if n not in names):
      names = list(tops)
    few = len(stray) <= _FEW * len(items)
    if few and len(tops) > 1 and all(re.fullmatch(_NUMBERED, n) for n in tops):
      beside += [path for path, _ in stray]
      items = [item for inside in tops.values() for item in _cut(inside)]
      folders = f'{folders}{min(tops)}/...{max(tops)}/'
      continue
    if len(names) != 1 or names[0] in known or not few:
      return items, folders, beside
    inside = tops.pop(names[0])
    for others in (stray, *tops.values()):
      beside += [path for path, _ in others]
    items, folders = _cut(inside), f'{folders}{names[0]}/'


def _is_target(path: str) -> bool:
  return any(re.fullmatch(_TARGETS, name) for name in path.split('/')[:-1])


def _tops(items: list[_Item]) -> dict[str, list[_Item]]:
  """Returns the items by their first folder; '' has those in none."""
  tops: dict[str, list[_Item]] = {'': []}
  for path, rest in items:
    top, slash, _ = rest.partition('/')
    tops.setdefault(top if slash else '', []).append((path, rest))
  return tops


def _cut(items: list[_Item]) -> list[_Item]:
  return [(path, rest.partition('/')[2]) for path, rest in items]


def _word(name: str) -> tuple[str | None, list[str]]:
  """Returns which split's word is in a name, and its other words."""
  words = re.findall(r'[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+', name)
  words = [word.lower() for word in words]
  glued = ''.join(words)  # trainimages, VALset2
  if re.fullmatch(f'(?:{_WORD}|{_NEUTRAL})+', glued):
    words = re.findall(f'{_WORD}|{_NEUTRAL}', glued)
  kinds = {
    kind
    for kind, pattern in _WORDS.items()
    if any(re.fullmatch(pattern, word) for word in words)
  }
  rest = [word for word in words if not re.fullmatch(_WORD, word)]
  if 'unlabeled' in kinds:
    return 'unlabeled', rest
  if {'train', 'val'} <= kinds:
    return 'trainval', rest
  return next((kind for kind in _WORDS if kind in kinds), None), rest
