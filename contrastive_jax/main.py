"""Starts one job: `python -m contrastive_jax.main --config=... --workdir=...`.

Flags only; the work is in train.py.
"""

import functools
import re
from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from contrastive_jax.commands import (
  command_line,
  compiled,
  rendezvous,
  watch,
)
from contrastive_jax.config import Error
from contrastive_jax.training.termination import Termination

_DEFAULT_CONFIG = 'simclr_small'
# No default here: overrides would be tried on it before the user's own file.
_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'FILE or FILE:SOURCE, as configs/simclr_small.py:tfds:cifar10, or the name '
  'of one that comes with the package, as simclr_small:digits, which is the '
  'default. Any field can be overridden: --config.objective.temperature=0.2; '
  'all fields, with units and defaults, are in contrastive_jax/config.py, '
  'those of an objective in contrastive_jax/objectives/NAME.py, Fields. '
  'Sources: digits, folder:PATH, csv:FILE, pairs:FILE, arrays:FILE, '
  'tar:PATTERN, idx:PATH, tfds:NAME, text:FILE, image_text:FOLDER, '
  'package.module:WHERE.',
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
  'Devices to make of a CPU. If not given: as many as there are cores, or the '
  'next number below that divides the batch.',
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
_JOIN_SECONDS = flags.DEFINE_float(
  'join_seconds',
  60.0,
  'How long the processes of a job wait for each other when they start; with '
  'auto at least 300.',
  lower_bound=1.0,
)
# After so many seconds without a sign of life JAX aborts: `watch` has long said
# in a sentence who is lost.
_HEARTBEAT = 100
_AUTO_JOIN = 300  # seconds; a scheduler may start one much later than another


def main(argv: Sequence[str], termination: Termination) -> None:
  """Checks the flags, sets up the devices, and trains.

  Args:
    argv: what is left of the command line.
    termination: that catches signals since the start: the imports, too, take a
      while.
  """
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
    command_line.shorten_tracebacks()
  with command_line.errors_in_a_sentence(), termination.answers_first():
    if not _WORKDIR.value.strip():
      raise Error('--workdir is empty: give it a folder')
    set_up_devices(_CONFIG.value.batch_size)
    termination.catch()
  # Only now: the import reads data, and makes TensorFlow leave devices alone.
  from contrastive_jax import train

  with command_line.errors_in_a_sentence(), termination.answers_first():
    coordinator = _COORDINATOR.value if _PROCESSES.value else None
    host = rendezvous.address(coordinator)[0] if coordinator else None
    with watch.watched(host):
      train.pretrain(_CONFIG.value, _WORKDIR.value, termination=termination)


def set_up_devices(batch_size: int | None) -> None:
  """Joins the other processes, and divides a CPU into devices.

  Raises:
    Error: the flags contradict each other, or not all processes are there.
  """
  coordinator, processes, process = (
    _COORDINATOR.value,
    _PROCESSES.value,
    _PROCESS.value,
  )
  rendezvous.check_flags(coordinator, processes, process)
  # A batch that is yet to be chosen will be divisible.
  rows = (batch_size or 0) // (_PROCESSES.value or 1)
  command_line.set_up_cpu(
    _CPU_DEVICES.value or command_line.devices_of_cpu(rows)
  )
  compiled.keep()
  import jax

  if coordinator == 'auto':
    try:
      jax.distributed.initialize(
        initialization_timeout=int(max(_JOIN_SECONDS.value, _AUTO_JOIN)),
        heartbeat_timeout_seconds=_HEARTBEAT,
      )
    except (ValueError, RuntimeError) as error:
      raise Error(
        f'--coordinator=auto finds no cluster here ({error}): give HOST:PORT, '
        '--processes and --process'
      ) from error
  elif coordinator and processes is not None and process is not None:
    rendezvous.meet(coordinator, processes, process, _JOIN_SECONDS.value)
    jax.distributed.initialize(
      coordinator, processes, process, heartbeat_timeout_seconds=_HEARTBEAT
    )


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the command line; what is wrong with it is said in one sentence."""
  if any(re.match(r'--?help', argument) for argument in argv):
    return flags.FLAGS(argv)  # prints, and ends; no config is loaded for it
  if not any(re.match(r'--?config(=|$)', argument) for argument in argv):
    argv = [argv[0], f'--config={_DEFAULT_CONFIG}', *argv[1:]]
  argv = command_line.with_config_paths(argv)
  command_line.check_config(argv)
  with command_line.said_in_a_sentence():
    rest = flags.FLAGS(argv)
    # A file that could not be loaded fails at its first use, not before.
    _CONFIG.value.get('seed')
  return rest


if __name__ == '__main__':
  with Termination() as caught:
    app.run(
      functools.partial(main, termination=caught), flags_parser=parse_flags
    )
