"""What a user writes outside of the package fits in by its name alone."""

import json
import math
import pathlib
import re
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import contrastive_jax
from contrastive_jax import objectives
from contrastive_jax.config import Error
from contrastive_jax.models import encoders
from contrastive_jax.objectives import Run
from contrastive_jax.training import build, parity
from tests import outside, tiny
from tests.train_test import ENVIRONMENT, ROOT

PAGE = pathlib.Path(contrastive_jax.__file__).parent / 'README.md'
BLOCKS = re.findall(r'^```python\n(.*?)^```', PAGE.read_text(), re.M | re.S)
RUN = Run(64, 1438, 10, (8, 8, 1), 2, 0, 22, 4)


def pretrained(workdir: pathlib.Path, *arguments: str) -> tuple[Any, Any]:
  """Runs the command; summary.json and config.json."""
  done = subprocess.run(
    [sys.executable, '-m', 'contrastive_jax.main', *arguments]
    + [f'--workdir={workdir}', '--cpu_devices=2'],
    cwd=ROOT,
    env=ENVIRONMENT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert done.returncode == 0, done.stdout
  summary, config = (
    json.loads((workdir / name).read_text())
    for name in ('summary.json', 'config.json')
  )
  return summary, config


def numbers(tree: Any) -> list[float]:
  """Every number of what json.loads returns."""
  if isinstance(tree, dict):
    tree = list(tree.values())
  if isinstance(tree, list):
    return [number for branch in tree for number in numbers(branch)]
  return [tree] if isinstance(tree, int | float) else []


def test_objective_and_encoder_from_outside(tmp_path):
  summary, config = pretrained(tmp_path, '--config=tests/outside.py')
  assert summary['step'] == 4
  assert all(math.isfinite(number) for number in numbers(summary))
  assert config['objective'] == {
    'name': 'tests.outside:alignment',
    'temperature': 0.5,
    'output_size': 16,
  }
  assert config['encoder']['name'] == 'tests.outside:tiny_convnet'


def test_encoder_from_outside_under_an_objective_from_inside(tmp_path):
  summary, config = pretrained(
    tmp_path,
    '--config=tests/tiny.py',
    '--config.encoder.name=tests.outside:tiny_convnet',
  )
  assert all(math.isfinite(number) for number in numbers(summary))
  assert config['objective']['name'] == 'simclr'
  assert config['encoder']['name'] == 'tests.outside:tiny_convnet'


@pytest.mark.parametrize(
  ('name', 'missing'),
  [
    ('no_such_package.module:thing', "no module 'no_such_package'"),
    ('tests.no_such_module:thing', "no module 'tests.no_such_module'"),
    ('tests.outside:no_such_name', "has no function 'no_such_name'"),
  ],
)
@pytest.mark.parametrize('part', ['objective', 'encoder'])
def test_a_wrong_name_is_one_sentence(part, name, missing):
  config = outside.get_config()
  config[part].name = name
  with pytest.raises(Error) as raised:
    if part == 'objective':
      objectives.make(config, RUN)
    else:
      encoders.make(config.encoder, RUN)
  sentence = str(raised.value)
  assert missing in sentence
  assert f'{part}.name is {name!r}' in sentence
  assert '\n' not in sentence


def test_a_wrong_field_is_one_sentence():
  config = outside.get_config()
  config.objective.temperature = 0.0
  with pytest.raises(Error, match='objective.temperature is 0: it must be abo'):
    objectives.make(config, RUN)


def test_eight_devices_are_one():
  config = outside.get_config()
  one, eight = (
    parity.gradient_on(config, devices, 'shard_map')[0] for devices in (1, 8)
  )
  assert max(parity.relative_errors(eight, one)) < 1e-5
  # A gradient of zeros would be the same anywhere.
  assert all(np.any(leaf) for leaf in jax.tree.leaves(one))


def test_the_page_has_examples():
  assert len(BLOCKS) >= 4


@pytest.mark.parametrize('block', BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_of_the_page_runs(block):
  exec(compile(block, str(PAGE), 'exec'), {'__name__': '__page__'})


def test_what_a_loss_refuses_is_a_sentence_of_ours():
  """A queue of a size that no batch divides: losses raise a ValueError."""
  job = build.build(tiny.config_of('moco_small'))
  job.config.objective.queue_size = 65
  with pytest.raises(Error, match='65'):
    objectives.make(job.config, job.run)
