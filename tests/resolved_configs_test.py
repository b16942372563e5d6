"""Each config resolves to what it was when every field was written out."""

import importlib
import json
import pathlib

import pytest

from contrastive_jax.config import base, flat

# Fields of every config and source that are not the defaults; 'base' has the
# defaults. A recipe is changed on purpose, here and there.
_BEFORE = json.loads(
  pathlib.Path(__file__).with_name('resolved_configs.json').read_text()
)
_DEFAULTS = _BEFORE.pop('base')


def _resolved(config):
  return flat(json.loads(config.to_json()))


@pytest.mark.parametrize('which', _BEFORE)
def test_resolves_as_before(which):
  name, _, source = which.partition(':')
  module = importlib.import_module(f'configs.{name}')
  found = _resolved(module.get_config(source))
  # Fields that came since are at their defaults.
  new = _resolved(base()).keys() - _DEFAULTS.keys()
  assert {k: v for k, v in found.items() if k not in new} == (
    _DEFAULTS | _BEFORE[which]
  )
