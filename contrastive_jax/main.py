"""Starts one job: `python -m contrastive_jax.main --config=... --workdir=...`.

Flags only; the work is in train.py.
"""

import os
import pathlib
import re
import sys
from collections.abc import Sequence

# Before TensorFlow is imported: its greetings would bury ours.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import jax
from absl import app, flags, logging
from ml_collections import config_flags

_ROOT = pathlib.Path(__file__).parents[1]
_CONFIG = config_flags.DEFINE_config_file(
  'config',
  str(_ROOT / 'configs' / 'simclr_small.py'),
  'FILE or FILE:SOURCE, as configs/simclr_small.py:tfds:cifar10. Any field can '
  'be overridden: --config.objective.temperature=0.2',
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder for all that the run writes. The same command continues it.',
  required=True,
)
_CPU_DEVICES = flags.DEFINE_integer(
  'cpu_devices',
  None,
  'Devices to make of a CPU; one a core if not given.',
  lower_bound=1,
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'HOST:PORT of process 0, for a job of several processes; or "auto" on Cloud '
  'TPU, SLURM, Kubernetes and Open MPI, where JAX finds all three by itself.',
)
_PROCESSES = flags.DEFINE_integer('processes', None, 'How many there are.')
_PROCESS = flags.DEFINE_integer('process', None, 'Which of them this one is.')


def main(argv: Sequence[str]) -> None:
  """Checks the flags, sets up the devices, and trains."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  logging.set_verbosity(logging.WARNING)
  set_up_devices()
  # Only now: the import reads data, and makes TensorFlow leave devices alone.
  from contrastive_jax import train

  try:
    train.pretrain(_CONFIG.value, _WORKDIR.value)
  except (ValueError, FileNotFoundError, FloatingPointError) as error:
    if logging.get_verbosity() >= logging.DEBUG or os.environ.get('DEBUG'):
      raise
    sys.exit(f'error: {error}')


def set_up_devices() -> None:
  """Joins the other processes, and divides a CPU into devices."""
  cores = len(os.sched_getaffinity(0))
  jax.config.update('jax_num_cpu_devices', _CPU_DEVICES.value or cores)
  if _COORDINATOR.value == 'auto':
    jax.distributed.initialize()
  elif _COORDINATOR.value:
    jax.distributed.initialize(
      _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
    )


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the command line; what is wrong with it is said in one sentence."""
  from contrastive_jax import config as config_lib

  try:
    return flags.FLAGS(argv)
  except (
    flags.Error,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
  ) as error:
    for argument in argv:
      match = re.match(r'--config\.([\w.]+)', argument)
      if match and match[1] not in (known := config_lib.keys_with_objective()):
        sys.exit(f'error: {config_lib.unknown_key(match[1], known)}')
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
