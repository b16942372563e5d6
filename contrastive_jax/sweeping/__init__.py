"""Ablation sweeps: overrides of a config, and how to combine them.

A sweep file, one of experiments/sweeps/ or your own, has one function:

  from contrastive_jax.sweeping import axis, product

  SEEDS = 3  # the default of --seeds

  def get_sweep(config):
    return product(
      axis('objective.temperature', (0.1, 0.2)), axis('batch_size', (64, 128))
    )

It gets the config of the command line and returns, or yields, dicts of
overrides. 'label' in them is no field: it names a setting that is many fields
at once, in tables, plots and folders.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from contrastive_jax.config import Config, Error

Overrides: TypeAlias = dict[str, Any]
T = TypeVar('T')

MOST = 10_000  # points of a sweep


def axis(field: str, values: Iterable[Any]) -> list[Overrides]:
  """Returns one override for each value of a field.

  Raises:
    ValueError: there is no end of them.
  """
  return [{field: value} for value in finite(values)]


def finite(values: Iterable[T]) -> list[T]:
  """Returns a list of what there is.

  Raises:
    ValueError: it is more than any sweep has: there may be no end of it.
  """
  found = list(itertools.islice(values, MOST + 1))
  if len(found) > MOST:
    raise Error(f'the sweep has more than {MOST:,} points, or no end')
  return found


def product(*sweeps: Iterable[Overrides]) -> list[Overrides]:
  """Returns every combination; the last sweep varies fastest.

  Raises:
    ValueError: two of them set the same field.
  """
  lists = [finite(sweep) for sweep in sweeps]
  return finite(_merged(parts) for parts in itertools.product(*lists))


def zipped(*sweeps: Iterable[Overrides]) -> list[Overrides]:
  """Returns the first of each as one override, the second of each, and so on.

  Raises:
    ValueError: they are not equally long, or two set the same field.
  """
  lists = [finite(sweep) for sweep in sweeps]
  lengths = [len(sweep) for sweep in lists]
  if len(set(lengths)) > 1:
    raise Error(f'zipped sweeps are of different lengths: {lengths}')
  return [_merged(parts) for parts in zip(*lists, strict=True)]


def same_images(config: Config, batch_sizes: Sequence[int]) -> list[Overrides]:
  """Returns one override for each batch size, with equally many images.

  Args:
    config: epochs are equally many images as they are (but for the rest that
      no whole batch is left for); `steps` are of its batch_size.
    batch_sizes: images a step.
  """
  if config.steps is None:
    return axis('batch_size', batch_sizes)
  images = config.steps * config.batch_size
  return [{'batch_size': b, 'steps': images // b} for b in batch_sizes]


def _merged(parts: Sequence[Overrides]) -> Overrides:
  merged: Overrides = {}
  for part in parts:
    if twice := merged.keys() & part.keys():
      raise Error(f'two of the combined sweeps set {min(twice)}')
    merged.update(part)
  return merged
