"""What a config may hold: generated from its fields, so that a new one counts.

A field without a range fails here, whoever added it.
"""

import dataclasses
import importlib
import math
from typing import Any

import jax
import ml_collections
import pytest

from contrastive_jax import config as config_lib
from contrastive_jax import objectives
from contrastive_jax.training import build, ranges, sizing
from experiments import small_configs
from tests import tiny

DEFAULTS = config_lib.flat(config_lib.base().to_dict())
# Their values are names, which the module looks up that they belong to.
NAMES = (
  'objective.name',
  'encoder.name',
  'encoder.stem',
  'encoder.norm',
  'encoder.dtype',
  'encoder.kernel_init',
  'data.source',
)
PATTERNS = ('optimizer.constant_rate', 'optimizer.frozen')
NO_NUMBERS = (math.nan, math.inf, -math.inf, -1.5, 1e39, True, '1')
NO_COUNTS = (-1, 2**31, 1.5, math.nan, True, '1')


def kind_of(name):
  value = DEFAULTS[name]
  if value is not None:
    return type(value)
  return {'steps': int}.get(name, float)


def wrong_values(kind, ends):
  """What a field of a type cannot hold, whatever it means."""
  if kind is bool:
    return [0, 1, 'yes', math.nan]
  if kind is str:
    return ['nonsense', '', 3, True] if ends.get('among') else [3, True]
  wrong = [None, *(NO_COUNTS if kind is int else NO_NUMBERS)]
  if (least := ends.get('least')) is not None and least < 0:  # of a bias
    wrong = [x for x in wrong if x != -1.5]
  for side in ('above', 'below'):
    if (end := ends.get(side)) is not None:
      wrong.append(kind(end))
  for side, step in (('least', -1), ('most', 1)):
    if (end := ends.get(side)) is not None:
      wrong.append(kind(end) + step)
  return wrong


def wrong_tuples(allowed):
  entries = wrong_values(allowed.entries, allowed.ends)
  length = max(1, *allowed.lengths, 0) if allowed.lengths else 2
  length = min(length, 3)
  right = 'flip' if allowed.entries is str else 0.5
  wrong: list[Any] = [0.5, 'flip', None]
  wrong += [(right,) * (length - 1) + (entry,) for entry in entries]
  if allowed.lengths and 0 not in allowed.lengths:
    wrong.append(())
  if allowed.lengths and not isinstance(allowed.lengths, range):
    wrong.append((right,) * (max(allowed.lengths) + 1))
  if allowed.rises:
    wrong.append((0.9, 0.2))
  return wrong


def cases():
  found = []
  for name, allowed in ranges.RANGES.items():
    kind = kind_of(name)
    wrong = (
      wrong_tuples(allowed)
      if kind is tuple
      else wrong_values(kind, allowed.ends)
    )
    if name in ranges._MAY_BE_NONE:
      wrong = [value for value in wrong if value is not None]
    found += [(name, value) for value in wrong]
  return found


def with_value(config, name, value):
  """A config as a file may make it: of plain dicts, which check no type."""
  tree = config.to_dict()
  part = tree
  *path, last = name.split('.')
  for key in path:
    part = part[key]
  part[last] = value
  return ml_collections.ConfigDict(tree)


def test_every_field_has_a_range():
  assert ranges.RANGES.keys() == DEFAULTS.keys()
  for name, allowed in ranges.RANGES.items():
    kind = kind_of(name)
    numeric = kind in (int, float) or (
      kind is tuple and allowed.entries is float
    )
    ends = {end for end in allowed.ends.values() if end is not None}
    assert ends or not numeric, f'{name} has no range'


@pytest.mark.parametrize('objective', objectives.names())
def test_every_field_of_an_objective_has_a_range(objective):
  module = importlib.import_module(f'contrastive_jax.objectives.{objective}')
  for f in dataclasses.fields(module.Fields):
    kind = type(f.default)
    assert kind in (int, float, bool, str), f'{f.name}: {kind}'
    ends = [end for end in f.metadata.values() if end not in (None, ())]
    assert ends or kind is bool, f'{objective}.{f.name} has no range'


def test_the_defaults_are_in_range():
  ranges.check(config_lib.base())


@pytest.mark.parametrize(
  ('name', 'value'), cases(), ids=lambda value: str(value).replace(' ', '')
)
def test_what_a_field_cannot_be(name, value):
  config = with_value(tiny.config(), name, value)
  with pytest.raises(config_lib.Error, match=name) as found:
    ranges.check(config)
  assert '\n' not in str(found.value)


@pytest.mark.parametrize('name', NAMES)
def test_an_unknown_name_is_refused_by_whoever_looks_it_up(name, monkeypatch):
  monkeypatch.setattr(jax, 'jit', None)  # nothing is compiled
  for value in ('nonsense', ''):
    with pytest.raises(config_lib.Error, match='nonsense|\'\'|""'):
      config = with_value(tiny.config(), name, value)
      build.build(config)


@pytest.mark.parametrize('name', PATTERNS)
def test_an_unknown_parameter_is_refused(name):
  config = with_value(tiny.config(), name, ('nonsense',))
  job = build.build(config)
  with pytest.raises(config_lib.Error, match="names 'nonsense'"):
    jax.eval_shape(build.make_init(job))


def test_what_has_no_range_is_known():
  free = {
    name
    for name, allowed in ranges.RANGES.items()
    if not allowed.ends and kind_of(name) is not bool
  }
  files = (
    'encoder.init',
    'text.tokenizer',
    'text_encoder.name',
    'text_encoder.init',
  )
  assert free == {*NAMES, *PATTERNS, *files, 'augment.stages'}


@pytest.mark.parametrize('objective', objectives.names())
def test_what_a_field_of_an_objective_cannot_be(objective, monkeypatch):
  monkeypatch.setattr(jax, 'jit', None)
  module = importlib.import_module(f'contrastive_jax.objectives.{objective}')
  config = tiny.shrink(small_configs.load(objective))
  for f in dataclasses.fields(module.Fields):
    name = f'objective.{f.name}'
    for value in wrong_values(type(f.default), f.metadata):
      with pytest.raises(config_lib.Error, match=name):
        build.build(with_value(config, name, value))
        pytest.fail(f'{name}={value!r} is taken')


def test_what_is_chosen_may_be_left_open_and_nothing_else():
  config = tiny.config()
  for name in DEFAULTS:
    if name in sizing.OPEN or DEFAULTS[name] is None:
      ranges.check(with_value(config, name, None))
    elif not name.startswith('objective.'):
      with pytest.raises(config_lib.Error, match=name):
        ranges.check(with_value(config, name, None))


def test_lists_are_tuples():
  """As config.json has them."""
  config = with_value(tiny.config(), 'augment.crop_scale', [0.2, 1.0])
  ranges.check(config)


def test_more_steps_than_can_be_counted():
  config = tiny.config()
  config.steps = None
  config.epochs = 2**30
  with pytest.raises(config_lib.Error, match=r'steps: it can have 2,147,'):
    build.build(config)
