"""Splits of image files: what folder and csv have in common."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data.readers import RandomAccess
from contrastive_jax.data.sources import _scan
from contrastive_jax.data.split import Split
from contrastive_jax.data.tensorflow_host import tf

_CLASSES_SHOWN = 10


def counts(classes: Iterable[str]) -> str:
  """Returns 'cat (16), dog (8)', or the range where there are many.

  Args:
    classes: one an image.
  """
  number = collections.Counter(classes)
  names = sorted(number)
  shown = ', '.join(f'{n} ({number[n]:,})' for n in names[:_CLASSES_SHOWN])
  if (more := len(names) - _CLASSES_SHOWN) > 0:
    low, high = min(number.values()), max(number.values())
    shown += f' and {more:,} more, all of {low:,} to {high:,} images'
  return shown


def split(
  name: str,
  root: pathlib.Path,
  relative: list[str],
  classes: Sequence[str | None] | None,
  names: tuple[str, ...] | None,
  channels: int,
) -> Split:
  """Makes a split of image files, with labels if both sides have them.

  Args:
    name: of the split.
    root: of the relative paths.
    relative: paths, in the order of the ids.
    classes: one a path, None for one without; None: there are none.
    names: of the classes of training; None: there are none.
    channels: of the images.

  Raises:
    Error: a class that training has not.
  """
  if classes is None or names is None:
    names = None
  paths = tuple(str(root / r) for r in relative)
  # As bytes: a name need not be UTF-8.
  table = tf.constant([os.fsencode(p) for p in paths])
  made = of_files(
    name,
    lambda i: tf.io.read_file(tf.gather(table, i)),
    len(paths),
    classes,
    names,
    channels,
  )
  return dataclasses.replace(made, paths=paths)


def of_files(
  name: str,
  read: Callable[[Any], Any],
  size: int,
  classes: Sequence[str | None] | None,
  names: tuple[str, ...] | None,
  channels: int,
) -> Split:
  """Makes a split of encoded files, wherever they are.

  Args:
    name: of the split.
    read: id (int32 tensor) -> the encoded file, a string tensor.
    size: how many there are.
    classes: one an id, None for one without.
    names: of the classes of training; None: there are no labels.
    channels: of the images.

  Raises:
    Error: a class that training has not.
  """
  labels = None
  if names and classes is not None:
    unknown = sorted({c for c in classes if c is not None} - set(names))
    if unknown:
      count = sum(c in unknown for c in classes)
      raise Error(
        f'{name} has the class {_scan.shown(unknown[0])}, which training has '
        f'not ({count:,} images of {len(unknown):,} such classes)'
      )
    number = {None: -1} | {n: i for i, n in enumerate(names)}
    labels = np.array([number[c] for c in classes], np.int32)
  numbers = tf.fill([size], -1) if labels is None else tf.constant(labels)
  return Split(
    name=name,
    size=size,
    channels=channels,
    num_classes=len(names) if names else None,
    class_names=names and tuple(map(_scan.shown, names)),
    labels=labels,
    reader=RandomAccess(
      lambda i: (read(i), tf.gather(numbers, i)), size, channels
    ),
  )
