"""Each config resolves to what it was when every field was written out."""

import importlib
import json
import pathlib

import pytest

from contrastive_jax import objectives
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
  before = _DEFAULTS | _BEFORE[which]
  # Fields that came since are at their defaults.
  own = objectives.default_fields(found['objective.name'])
  defaults = _resolved(base()) | {f'objective.{k}': v for k, v in own.items()}
  new = defaults.keys() - before.keys()
  objective = {k for k in new if k.startswith('objective.')}
  assert {k: found[k] for k in objective & found.keys()} == {
    k: defaults[k] for k in objective & found.keys()
  }
  assert {k: v for k, v in found.items() if k not in new} == before
