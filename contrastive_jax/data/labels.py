"""Which images have labels, and whether a run can do with these."""

import dataclasses

import numpy as np

from contrastive_jax.config import Config, Error
from contrastive_jax.data.split import Source, Split


def checked(source: Source) -> Source:
  """Returns a source whose labels can be learned and measured.

  An image without a label has the label -1. Labels of a single class tell
  nothing: they are left out.

  Args:
    source: any. Labels that are not held in memory are not checked.

  Returns:
    The source, with notes of what was found.

  Raises:
    Error: a test label has another name than in training, or was no class.
  """
  train, test = source.train, source.test
  notes = []
  present = _present(train)
  if present is not None and len(present) < 2:
    one = ', '.join(_names(train, present)) or 'none'
    notes.append(
      f'no labels: all that there are in {train.name} are of one class ({one})'
    )
    train = _without(train)
    test = test and _without(test)
  elif test is not None and test.num_classes and train.num_classes:
    _check_test(train, test)
    seen = _present(test)
    if present is not None and seen is not None:
      new = np.setdiff1d(seen, present)
      if len(new):
        notes.append(
          f'warning: {test.name} has images of {_list(_names(test, new))}, '
          f'{train.name} has none'
        )
    if seen is not None and not len(seen):
      notes.append(f'no image of {test.name} has a label: there is no accuracy')
      test = _without(test)
  for split in (train, test):
    if split is not None and (count := unlabeled(split)):
      notes.append(
        f'{count:,} of {split.size:,} images of {split.name} have no label: '
        'they are left out where labels are learned or measured; SupCon takes '
        'each as a class of its own'
      )
  if not notes:
    return source
  return source._replace(train=train, test=test, notes=(*source.notes, *notes))


def unlabeled(split: Split) -> int:
  """Returns how many images of a split with labels have none, if it is known.

  Args:
    split: any.
  """
  if split.labels is None or not split.num_classes:
    return 0
  return int(np.sum(split.labels < 0))


def measurable(source: Source) -> bool:
  """Returns whether both splits have labels, so that there are accuracies.

  Args:
    source: of `checked`.
  """
  return source.test is not None and all(
    split.num_classes and unlabeled(split) < split.size
    for split in (source.train, source.test)
  )


def evaluation_notes(source: Source, config: Config) -> tuple[str, ...]:
  """Returns what of config.evaluation cannot be done with a source.

  Args:
    source: of `checked`.
    config: the config's `evaluation`.
  """
  train, test = source.train, source.test
  if not (train.num_classes and test and test.num_classes):
    return ()
  if train.labels is None:
    return ()
  notes = []
  labels = train.labels[train.labels >= 0]
  if config.knn_k > len(labels):
    notes.append(
      f'evaluation.knn_k is {config.knn_k}, and only {len(labels):,} training '
      'images have labels: all of them vote'
    )
  counts = np.bincount(labels, minlength=train.num_classes)
  rarest = int(np.argmin(counts))
  if counts[rarest] < config.labels_per_class:
    (name,) = _names(train, [rarest])
    notes.append(
      f'no accuracy with evaluation.labels_per_class={config.labels_per_class}'
      f': class {name} has {counts[rarest]:,} training images'
    )
  return tuple(notes)


def lacking(source: Source, protocol: str, per_class: int) -> str:
  """Returns why a protocol will fail, known before any feature; '' if it can.

  Args:
    source: with labels and a test split.
    protocol: of frozen features.
    per_class: labels a class of the few-label probe.
  """
  train = source.train
  least = {'linear_few': per_class, 'linear_lbfgs': 2}.get(protocol, 1)
  if train.labels is None or not train.num_classes:
    return ''
  labels = train.labels[train.labels >= 0]
  counts = np.bincount(labels, minlength=train.num_classes)
  counts = np.where(counts, counts, least)  # a class that nobody has seen
  rarest = int(np.argmin(counts))
  if counts[rarest] >= least:
    return ''
  (name,) = _names(train, [rarest])
  return (
    f'{protocol} needs {least} training images of every class, and '
    f'{train.name} has {counts[rarest]} of {name}'
    + (' (evaluation.labels_per_class)' if protocol == 'linear_few' else '')
  )


def _check_test(train: Split, test: Split) -> None:
  """Compares the classes of the two splits."""
  ours, theirs = train.class_names or (), test.class_names or ()
  seen = _present(test)
  used = range(len(theirs)) if seen is None else seen
  for label in used:
    if label >= len(ours):
      raise Error(
        f'{test.name} has the label {label}, and {train.name} has only 0 to '
        f'{len(ours) - 1}'
      )
    if label < len(theirs) and ours[label] != theirs[label]:
      raise Error(
        f'label {label} is {theirs[label]} in {test.name} and {ours[label]} '
        f'in {train.name}'
      )


def _present(split: Split) -> np.ndarray | None:
  """Returns the classes that images have; None: not known, or no labels."""
  if split.labels is None or not split.num_classes:
    return None
  return np.unique(split.labels[split.labels >= 0])


def _without(split: Split) -> Split:
  return dataclasses.replace(
    split, num_classes=None, class_names=None, labels=None
  )


def _names(split: Split, labels) -> list[str]:
  names = split.class_names or ()
  return [str(names[i]) if i < len(names) else str(i) for i in labels]


def _list(names: list[str], shown: int = 5) -> str:
  more = [f'{len(names) - shown} more'] if len(names) > shown else []
  return ', '.join(names[:shown] + more)
