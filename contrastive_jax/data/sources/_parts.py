"""Which parts of a TFDS dataset are read: its splits, image and label."""

import re
import urllib.parse
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data.sources import _layout

import tensorflow_datasets as tfds  # isort: skip  (after hiding accelerators)

# A picture of this name is not what a dataset is of, where there is another.
_TARGET = re.compile(
  'mask|segment|annotation|label|depth|trimap', re.IGNORECASE
)


class Wanted(NamedTuple):
  """What a user asks for; None: chosen, see `choose`."""

  name: str
  split: str | None = None
  test: str | None = None
  image: str | None = None
  label: str | None = None


class Parts(NamedTuple):
  """What is read."""

  train: str
  tests: list[str]  # by preference
  image: str
  label: str | None
  note: str  # of image and label


def wanted(where: str) -> Wanted:
  """Returns what 'NAME?split=..&test=..&image=..&label=..' asks for.

  Args:
    where: NAME as TFDS knows it; any of the four may follow it.

  Raises:
    Error: something else follows.
  """
  name, _, query = where.partition('?')
  given = urllib.parse.parse_qsl(query, keep_blank_values=True)
  known = Wanted._fields[1:]
  for key, value in given:
    if key not in known or not value:
      raise Error(
        f"tfds:{where} has '{key}={value}': after the name there may be "
        '?split=..&test=..&image=..&label=.., each with the name of one'
      )
  return Wanted(name, **dict(given))


def choose(spec: str, builder: Any, asked: Wanted) -> Parts:
  """Returns the parts of a dataset that are read.

  Args:
    spec: for sentences.
    builder: of TFDS.
    asked: by the user; what is left open is chosen: the training split by its
      name, test before validation, the feature `image` or the only one that is
      no mask, `label` or the only class label.

  Raises:
    Error: there is no such part, or nothing says which, or its images would
      be misread.
  """
  train, tests = _splits(spec, builder, asked)
  features = builder.info.features
  image = _image(spec, features, asked)
  labels = [
    k for k in features if type(features[k]) is tfds.features.ClassLabel
  ]
  label, why = asked.label, ''
  if label is not None and label not in labels:
    raise Error(
      f'{spec} has no class label {label}; it has {_list(labels) or "none"}'
    )
  if label is None:
    label = 'label' if 'label' in labels else None
    if len(labels) == 1:
      (label,) = labels
  if label is None:
    why = 'no labels: it has no class label'
    if labels:
      why = f'no labels: it has {_list(labels)}, chosen by ?label=NAME'
  others = [k for k in features if _is_image(features[k]) and k != image]
  note = f'images are its {image}'
  note += f' (not {_list(others)})' if others else ''
  note += f', labels its {label}' if label else f', {why}'
  others = [k for k in labels if label and k != label]
  note += f' (not {_list(others)})' if others else ''
  return Parts(train, tests, image, label, note)


def _splits(spec: str, builder: Any, asked: Wanted) -> tuple[str, list[str]]:
  """Returns the split to train on, and those to test on by preference."""
  splits = {k: s for k, s in builder.info.splits.items() if s.num_examples}
  for name in (asked.split, asked.test):
    if name is not None and name not in splits:
      raise Error(f'{spec} has no split {name}; its splits are {_list(splits)}')
  kinds = {name: _layout.kind_of(name) for name in splits}
  train = asked.split or ('train' if 'train' in splits else None)
  if train is None:
    named = [name for name, kind in kinds.items() if kind == 'train']
    if len(named) != 1:
      raise Error(
        f'{spec} has no split train: choose one of {_list(splits)}, as in '
        f'tfds:{asked.name}?split={next(iter(splits), "NAME")}'
      )
    (train,) = named
  if asked.test is not None:
    return train, [asked.test]
  tests = [
    name
    for kind in ('test', 'val')
    for name in sorted(splits, key=len)
    if kinds[name] == kind and name != train
  ]
  return train, tests


def _image(spec: str, features: Any, asked: Wanted) -> str:
  """Returns the feature that is read, one whose pixels are bytes."""
  images: list[str] = [k for k in features if _is_image(features[k])]
  if not images:
    raise Error(
      f'{spec} has no image feature; its features are {_list(features)}'
    )
  image = asked.image or _the_picture(spec, features, images, asked.name)
  if image not in images:
    raise Error(f'{spec} has no image {image}; its images are {_list(images)}')
  dtype, depth = np.dtype(features[image].np_dtype), features[image].shape[-1]
  if dtype != np.uint8:
    raise Error(
      f'{spec}: the pixels of its {image} are {dtype}, and only uint8 is read '
      'as it is: prepare the data with bytes, or choose another by ?image=NAME'
    )
  if depth not in (1, 3, None):
    raise Error(
      f'{spec}: its {image} has {depth} channels, and only 1 or 3 are read: '
      'prepare the data with 3, or choose another by ?image=NAME'
    )
  return image


def _the_picture(spec: str, features: Any, images: list[str], name: str) -> str:
  """Returns `image`, or the only one that is no mask."""
  pictures = [
    k
    for k in images
    if not isinstance(features[k], tfds.features.LabeledImage)
    and not _TARGET.search(k)
  ] or images
  if 'image' in pictures:
    return 'image'
  if len(pictures) > 1:
    raise Error(
      f'{spec} has the images {_list(pictures)}: choose one, as in '
      f'tfds:{name}?image={pictures[0]}'
    )
  return pictures[0]


def _is_image(feature: Any) -> bool:
  return isinstance(feature, tfds.features.Image)


def _list(names: Any) -> str:
  return ', '.join(names)
