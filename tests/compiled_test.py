"""What a command compiles is there for its next start."""

import json
import os
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from contrastive_jax.commands import compiled
from contrastive_jax.training import build, step
from tests import tiny
from tests.train_test import ENVIRONMENT, ROOT


@pytest.fixture
def fresh(monkeypatch, tmp_path):
  """As at the start of a command, with an empty cache of the user's."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  names = (
    'jax_compilation_cache_dir',
    'jax_enable_compilation_cache',
    'jax_persistent_cache_min_compile_time_secs',
  )
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update('jax_compilation_cache_dir', None)
  yield tmp_path
  for name, value in before.items():
    jax.config.update(name, value)


def _started(cache, workdir):
  environment = {
    k: v for k, v in ENVIRONMENT.items() if k != 'JAX_COMPILATION_CACHE_DIR'
  }
  subprocess.run(
    [sys.executable, '-m', 'contrastive_jax.main', '--cpu_devices=1']
    + [f'--workdir={workdir}', '--config=tests/tiny.py'],
    cwd=ROOT,
    env={**environment, 'XDG_CACHE_HOME': str(cache)},
    check=True,
    capture_output=True,
  )
  # Some compile in a tenth of a second or so, and are kept or not.
  return {path.name for path in cache.glob('*/*/jit_train_step-*-cache')}


def test_a_second_start_compiles_nothing_anew(tmp_path):
  first = _started(tmp_path / 'cache', tmp_path / 'first')
  assert len(first) == 1
  assert _started(tmp_path / 'cache', tmp_path / 'second') == first
  losses, again = (
    [json.loads(line)['loss'] for line in path.read_text().splitlines()]
    for path in sorted(tmp_path.glob('*/metrics.jsonl'))
  )
  assert losses == again


def test_parameters_are_those_of_every_level(monkeypatch):
  """They are drawn by a program that was compiled in a hurry."""
  monkeypatch.delenv('XLA_FLAGS')  # read by XLA long ago
  job = build.build(tiny.get_config(), step.make_mesh(jax.devices()[:1]))
  thorough = jax.jit(
    build.make_init(job), compiler_options={'xla_backend_optimization_level': 3}
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    jax.device_get(build.init_state(job).params),
    jax.device_get(thorough().params),
  )


def test_the_untrained_encoder_is_drawn_by_the_same_program():
  """With all scales at 1; as one that is set so from the beginning."""
  config = tiny.config_of('byol_small')  # whose state has an encoder, too
  job = build.build(config, step.make_mesh(jax.devices()[:1]))
  assert job.config.encoder.zero_init_last_scale
  found = build.untrained_state(job)
  config.encoder.zero_init_last_scale = False
  wanted = build.init_state(build.build(config, job.mesh))
  for ours, theirs in (
    (found.params, wanted.params),
    (found.model_state, wanted.model_state),
  ):
    jax.tree.map(
      np.testing.assert_array_equal, *map(jax.device_get, (ours, theirs))
    )
  begun = build.init_state(job).params['encoder']
  assert not np.all(begun['stage1_block1']['norm2']['scale'])


def test_another_place_and_none_are_respected(fresh):
  jax.config.update('jax_enable_compilation_cache', False)
  compiled.keep()
  assert jax.config.jax_compilation_cache_dir is None
  jax.config.update('jax_enable_compilation_cache', True)
  jax.config.update('jax_compilation_cache_dir', str(fresh / 'mine'))
  compiled.keep()
  assert jax.config.jax_compilation_cache_dir == str(fresh / 'mine')
  assert not list(fresh.iterdir())


def test_where_nothing_can_be_written_nothing_is_kept(fresh):
  (fresh / 'contrastive_jax').write_text('no folder')
  compiled.keep()
  assert jax.config.jax_compilation_cache_dir is None


def test_what_nobody_reads_is_forgotten(fresh):
  compiled.keep()
  folder = jax.config.jax_compilation_cache_dir
  assert folder and folder.startswith(str(fresh))
  for name, days in (('old-cache', 61), ('new-cache', 59)):
    path = os.path.join(folder, name)
    with open(path, 'w'):
      pass
    then = time.time() - 24 * 3600 * days
    os.utime(path, (then, then))
  jax.config.update('jax_compilation_cache_dir', None)
  compiled.keep()
  assert os.listdir(folder) == ['new-cache']
