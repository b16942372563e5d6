"""The plan of a sweep: each override x seed is a point, checked beforehand."""

import copy
import itertools
import pathlib
import re
import runpy
import types
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from contrastive_jax.config import (
  Config,
  Error,
  MissingError,
  flat,
  unknown_key,
)
from contrastive_jax.sweeping import MOST, Overrides, finite

# Share of the training split that scores a point, unless the config has one.
HELD_OUT = 0.1
# What a sweep may derive from the command line's value, and so sets as well.
_BUDGET = ('epochs', 'steps')
_LONGEST_NAME = 200  # file systems end at 255 bytes


class Point(NamedTuple):
  """One run of a sweep.

  Attributes:
    number: from 0, as --only counts.
    seed: of the run.
    values: every field that the sweep sets anywhere -> its value here.
    setting: those of `values` that tell the settings apart.
    overrides: what the main job is told on its command line.
    config: all of it, but for what only the data says.
    folder: the run's work folder.
  """

  number: int
  seed: int
  values: Overrides
  setting: Overrides
  overrides: Overrides
  config: Config
  folder: pathlib.Path


def load_sweep(
  path: str | pathlib.Path, config: Config
) -> tuple[list[Overrides], int]:
  """Runs a sweep file.

  Args:
    path: of the file.
    config: of the command line.

  Returns:
    The overrides in the file's order, and its SEEDS (1 if it has none).

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no get_sweep, or that yields something else, or asks for
      a field that the config does not have.
  """
  if not pathlib.Path(path).is_file():
    raise MissingError(f'there is no sweep file {path}')
  module = runpy.run_path(str(path))
  if 'get_sweep' not in module:
    raise Error(f'{path} has no function get_sweep(config)')
  try:
    found = module['get_sweep'](copy.deepcopy(config))
    overrides = finite(found) if isinstance(found, Iterable) else [found]
  except (AttributeError, KeyError) as error:
    # ml_collections adds which fields there are, in lines of their own.
    sentence = str(error).strip('"\'').split('\\n')[0].split('\n')[0]
    raise Error(
      f'get_sweep of {path} does not go with this config: {sentence}'
    ) from error
  for override in overrides:
    if not isinstance(override, dict):
      raise Error(f'get_sweep of {path} yields {override!r}, not a dict')
    for key in override:
      if not isinstance(key, str):
        raise Error(f'get_sweep of {path} sets {key!r}, which is no field')
    if not isinstance(override.get('label', ''), str):
      raise Error(f'get_sweep of {path} has a label that is no text')
  seeds = module.get('SEEDS', 1)
  if type(seeds) is not int or seeds < 1:
    raise Error(f'SEEDS of {path} is {seeds!r}: it must be at least 1')
  return overrides, seeds


def make_plan(
  sweep: Sequence[Overrides],
  base: Config,
  *,
  given: Overrides,
  seeds: int,
  workdir: pathlib.Path,
) -> list[Point]:
  """Returns every override x seed as a point; seeds vary slowest.

  All settings of the first seed come first: a sweep that is not done yet shows
  the whole picture, and one that gets more seeds keeps its numbers.

  Args:
    sweep: overrides, of `load_sweep`.
    base: the config that they change.
    given: fields that the command line has set in it; they hold for all points.
    seeds: runs of each; base.seed is the first.
    workdir: of all of them.

  Returns:
    The points, in the order in which they run.

  Raises:
    ValueError: a key is unknown, a value is of the wrong type, a field is set
      twice, two points have the same name.
  """
  if not sweep:
    raise Error('the sweep yields no overrides')
  if len(sweep) * seeds > MOST:
    raise Error(
      f'the sweep has {len(sweep):,} settings x {seeds:,} seeds: at most '
      f'{MOST:,} points can be'
    )
  configs = [_overridden(base, override, given) for override in sweep]
  fields = dict.fromkeys(itertools.chain.from_iterable(sweep))
  # The label first: it stands for what goes with it.
  ordered = sorted(fields, key=lambda field: field != 'label')
  values = [
    {
      field: override.get('label', '')
      if field == 'label'
      else _at(config, field)
      for field in ordered
    }
    for override, config in zip(sweep, configs, strict=True)
  ]
  axes = _axes(values)
  points, seen = [], {}
  for seed in range(base.seed, base.seed + seeds):
    for override, config, value in zip(sweep, configs, values, strict=True):
      setting = {field: value[field] for field in axes}
      name = _name(setting, seed)
      if name in seen:
        raise Error(
          f'points {seen[name]} and {len(points)} of the sweep have the same '
          f'name {name}: it yields one setting twice, or two that differ only '
          'in characters that a file name cannot have'
        )
      seen[name] = len(points)
      config = copy.deepcopy(config)
      config.seed = seed
      overrides = {
        **given,
        **{key: value[key] for key in override if key != 'label'},
        'data.held_out': config.data.held_out,
        'evaluation.baselines': False,
        'seed': seed,
      }
      folder = workdir / 'points' / name
      point = Point(
        len(points), seed, value, setting, overrides, config, folder
      )
      points.append(point)
  return points


def describe(point: Point) -> str:
  """Returns 'objective.temperature=0.1, seed 0'."""
  return f'{setting_text(point.setting)}, seed {point.seed}'


def setting_text(setting: Overrides) -> str:
  """Returns 'objective.temperature=0.1, batch_size=64'; a label as it is."""
  parts = [
    str(value) if field == 'label' else f'{field}={value}'
    for field, value in setting.items()
  ]
  return ', '.join(parts) or 'the config as it is'


def _overridden(base: Config, override: Overrides, given: Overrides) -> Config:
  """Returns the config of a setting, checked."""
  known = set(flat(base.to_dict()))
  config = copy.deepcopy(base)
  config.data.held_out = config.data.held_out or HELD_OUT
  config.evaluation.baselines = False
  for key, value in override.items():
    if key == 'label':
      continue
    if key not in known:
      raise Error(unknown_key(key, known))
    if key in ('seed', 'evaluation.baselines'):
      raise Error(f'a sweep does not set {key}; seeds are --seeds=N')
    if key in given and key not in _BUDGET:
      raise Error(
        f'the sweep sets {key}, and so does the command line '
        f'({given[key]!r}): leave one of them out'
      )
    *path, last = key.split('.')
    parent = _at(config, '.'.join(path))
    wanted = parent.get_type(last)
    try:
      # To Python a bool is an int, to the command line it is not.
      if value is None or isinstance(value, bool) != (wanted is bool):
        raise TypeError
      parent[last] = value
    except TypeError:
      raise Error(
        f'the sweep sets {key} to {value!r}, which is not of the type '
        f'{wanted.__name__}'
      ) from None
  if 'epochs' in override and config.steps is not None:
    raise Error(
      f'the sweep sets epochs, but steps={config.steps} overrides them'
    )
  if not config.data.held_out > 0:
    raise Error('a sweep sets data.held_out to 0: it scores on that part')
  shown = ', '.join(f'{key}={value!r}' for key, value in override.items())
  try:
    _check(config)
  except ValueError as error:
    raise Error(f'no run could take the setting {shown}: {error}') from error
  return config


def _check(config: Config) -> None:
  """Refuses what a run would, as far as that is known without the data."""
  # Only now: they import TensorFlow, and --help is not to wait for it.
  from contrastive_jax import objectives
  from contrastive_jax.models import encoders
  from contrastive_jax.training import ranges, sizing

  ranges.check(config)
  config = copy.deepcopy(config)
  with config.unlocked():
    objectives.complete(config)
  if not sizing.is_open(config):
    side = config.data.image_size or 64
    run = types.SimpleNamespace(
      input_shape=(side, side, 3), vocabulary=config.text.vocabulary
    )
    encoders.make(config.encoder, run)


def _at(config: Config, key: str) -> Any:
  for part in filter(None, key.split('.')):
    config = config[part]
  return config


def _axes(values: list[Overrides]) -> list[str]:
  """Returns the fields that vary, but those that an earlier one determines."""

  def count(*fields):
    return len({tuple(value[field] for field in fields) for value in values})

  axes: list[str] = []
  for field in values[0]:
    if count(field) > 1 and all(count(a) < count(a, field) for a in axes):
      axes.append(field)
  return axes or list(values[0])[:1]


def _name(setting: Overrides, seed: int) -> str:
  def text(value):
    return '-'.join(map(str, value)) if isinstance(value, tuple) else str(value)

  parts = [
    text(value) if field == 'label' else f'{field}={text(value)}'
    for field, value in setting.items()
  ]
  name = re.sub(r'[^\w.,=+-]+', '_', ','.join([*parts, f'seed={seed}']))
  if len(name) > _LONGEST_NAME:
    raise Error(
      f"{name} is too long for a file name: give the setting a 'label'"
    )
  return name
