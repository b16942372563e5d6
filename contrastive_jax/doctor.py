"""Is all as it has to be, before a long run? One verdict a line.

  python -m contrastive_jax.doctor --config=simclr_small:digits
  python -m contrastive_jax.doctor --config=... --loss=package.module:function

Versions; whether accelerators are seen; whether config and data fit together;
whether the gradient on several devices is that of one, on those that there are
and on simulated ones, also for an objective of your own, or for a loss alone
(--loss, called as loss(z_a, z_b, axis_name=...)); whether a step repeats itself
to the bit; whether the input keeps up with the step. Trains nothing, writes
nothing. A verdict is `ok`, `wrong`, or `-`: not tried, and why. Exits with 1 if
something is wrong.
"""

import glob
import importlib.metadata
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from packaging.requirements import Requirement

from contrastive_jax.commands import command_line, compiled
from contrastive_jax.config import Error

_SIMULATED = 8  # devices

# A verdict, and what it is about.
Line = tuple[str, str]


def main(argv: Sequence[str]) -> None:
  """Prints the verdicts."""
  parser = command_line.config_parser(
    'doctor', 'Checks machine, config and data before a long run.'
  )
  parser.add_argument(
    '--loss', help='package.module:function, whose gradient is checked alone'
  )
  options, config = command_line.parse(parser, argv)
  # As many as a run makes of it, and those that are simulated.
  cpus = command_line.devices_of_cpu(config.batch_size or 0)
  command_line.set_up_cpu(max(_SIMULATED, cpus))
  compiled.keep()
  wrong = 0
  with command_line.errors_in_a_sentence():
    for verdict, sentence in _lines(config, options.loss, cpus):
      print(f'{verdict:<6}{sentence}', flush=True)
      wrong += verdict == 'wrong'
  if wrong:
    sys.exit(1)


def _lines(config: Any, loss: str | None, cpus: int) -> Iterator[Line]:
  yield from versions()
  # Only now: these imports take seconds, and --help is not to wait for them.
  import jax

  from contrastive_jax.config import found
  from contrastive_jax.training import build, checks, step

  yield from accelerators(jax.default_backend(), jax.devices())
  simulated = jax.devices('cpu')[:_SIMULATED]
  here = jax.devices()
  if here[0].platform == 'cpu':
    here = here[:cpus]
  try:
    job = build.build(config, step.make_mesh(here))
  except (Error, OSError) as error:
    yield 'wrong', f'config and data: {error}'
    return
  yield 'ok', 'config and data: ' + '; '.join(job.notes[-3:])
  yield from checks.gradients(job, here, simulated)
  if loss is not None:
    yield from checks.loss_alone(loss, found(loss, '--loss'), here, simulated)
  yield from checks.repeats(job)
  yield from checks.speeds(job)


def versions() -> Iterator[Line]:
  """Says of Python and of each package that is needed whether it is as needed.

  Yields:
    One line of those that are, and one for each that is not.
  """
  have = [f'Python {sys.version.split()[0]}']
  try:
    needed = importlib.metadata.requires('contrastive_jax') or []
  except importlib.metadata.PackageNotFoundError:
    yield 'wrong', 'contrastive_jax is not installed: pip install -e .'
    return
  for text in needed:
    requirement = Requirement(text)
    if requirement.marker and not requirement.marker.evaluate({'extra': ''}):
      continue
    try:
      version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
      yield 'wrong', f'{requirement.name} is not installed'
      continue
    if requirement.specifier.contains(version, prereleases=True):
      have.append(f'{requirement.name} {version}')
    else:
      yield (
        'wrong',
        f'{requirement.name} is {version}, needed is {requirement.specifier}',
      )
  yield 'ok', ', '.join(have)


def accelerators(backend: str, devices: Sequence[Any]) -> Iterator[Line]:
  """Says which devices JAX uses, and whether it leaves some unused.

  Args:
    backend: JAX's default.
    devices: that it has.

  Yields:
    One line.
  """
  used = f'{len(devices)} devices: {devices[0].device_kind}'
  if backend != 'cpu':
    yield 'ok', used
    return
  there = {
    'an NVIDIA GPU': ('/proc/driver/nvidia/gpus/*', "'.[cuda]'"),
    'a TPU': ('/dev/accel[0-9]*', "'.[tpu]'"),
  }
  for name, (pattern, extra) in there.items():
    if glob.glob(pattern):
      yield (
        'wrong',
        f'{name} is there, but JAX runs on the CPU: pip install -e {extra}, '
        'and JAX_PLATFORMS is not to say cpu',
      )
      return
  model = re.search(
    r'model name\s*: (.*)', pathlib.Path('/proc/cpuinfo').read_text()
  )
  yield (
    'ok',
    f'no accelerator; {len(os.sched_getaffinity(0))} cores'
    + (f' ({model[1]})' if model else ''),
  )


if __name__ == '__main__':
  main(sys.argv)
