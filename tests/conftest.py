"""Eight simulated CPU devices, and compiled functions kept between runs."""

import gc
import importlib.metadata
import os
import pathlib
import tempfile

# Before TensorFlow is imported: its start-up lines are not warnings of ours.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

# Eight devices share a machine's few cores: one of them may be a minute late.
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '')
  + ' --xla_cpu_collective_call_terminate_timeout_seconds=600'
  + ' --xla_cpu_collective_call_warn_stuck_timeout_seconds=300'
  # Most of the time is the compiler's: this halves it.
  + ' --xla_backend_optimization_level=0'
)
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  # A contract test takes a quarter less without them. Later releases have no
  # others.
  os.environ['XLA_FLAGS'] += ' --xla_cpu_use_fusion_emitters=false'

import jax
import pytest

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
_CACHE = pathlib.Path(tempfile.gettempdir()) / 'contrastive_jax_test_cache'
jax.config.update('jax_compilation_cache_dir', str(_CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)

# First, so that no worker is left alone with one of them at the end.
_LONGEST = (
  'configs_test',
  'contract_test',
  'train_test',
  'processes_test',
  'sweep_test',
  'microbatch_test',
  'zero_test',
)


def pytest_collection_modifyitems(items):
  """Puts the longest modules first."""
  items.sort(key=lambda item: item.path.stem not in _LONGEST)


@pytest.fixture(autouse=True, scope='module')
def _forget_programs():
  """Frees what a module compiled.

  Every program for the CPU holds memory maps, by the hundred for eight devices,
  and Linux allows a process 65,530: past them, XLA ends the process.
  """
  yield
  jax.clear_caches()
  gc.collect()
