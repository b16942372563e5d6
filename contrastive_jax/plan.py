"""What a run needs of each device, before anything runs: does my batch fit?

  python -m contrastive_jax.plan --config=simclr_r50 --memory=80GiB --devices=8

Compiles the step of the config for devices like these and prints the bytes of
its parts, how long compiling took, and the floating-point operations. With
--memory also the largest batch that fits, and the largest `microbatch` at the
config's batch. It reads no data: where the config's is not here, shapes stand
in for it (--images, --classes, --channels). On a CPU the numbers are those of
the program for a CPU; a GPU's or TPU's compiler fuses and schedules otherwise.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from contrastive_jax.commands import command_line, compiled
from contrastive_jax.config import Error

_UNITS = {'MiB': 2**20, 'GiB': 2**30}


def main(argv: Sequence[str]) -> None:
  """Prints the plan."""
  parser = command_line.config_parser(
    'plan', 'Says what a step needs of each device, without running it.'
  )
  parser.add_argument('--memory', help='of a device, as 16GiB or 800MiB')
  parser.add_argument(
    '--devices', type=int, default=1, help='that share the batch; default: 1'
  )
  stands_in = 'if the data is not here; default: ImageNet'
  parser.add_argument('--images', type=int, default=1_281_167, help=stands_in)
  parser.add_argument('--classes', type=int, default=1000, help=stands_in)
  parser.add_argument('--channels', type=int, default=3, help=stands_in)
  options, config = command_line.parse(parser, argv)
  with command_line.errors_in_a_sentence():
    memory = _bytes(options.memory) if options.memory else None
    _check(options)
  command_line.set_up_cpu(options.devices)
  compiled.keep()
  # Only now: these imports take seconds, and --help is not to wait for them.
  import jax

  from contrastive_jax.training import memory as needed
  from contrastive_jax.training import step

  with command_line.errors_in_a_sentence():
    if options.devices > jax.device_count():
      raise Error(
        f'--devices is {options.devices}, and there are {jax.device_count()} '
        'devices here; a CPU can be as many as one likes (JAX_PLATFORMS=cpu)'
      )
    mesh = step.make_mesh(jax.devices()[: options.devices])
    source = needed.stand_in(
      config,
      images=options.images,
      classes=options.classes,
      channels=options.channels,
    )
    print(f'data: {source.name}')
    needs = needed.needs(config, source, mesh)
    print(_table(needs, config, mesh))
    if memory is None:
      return
    for field in ('batch_size', 'microbatch'):
      _say_largest(needed, config, source, mesh, field, memory)


def _say_largest(needed, config, source, mesh, field, memory) -> None:
  try:
    found = needed.largest(config, source, mesh, field, memory)
  except Error as error:
    print(f'{field}: {error}')
    return
  limit = f'{memory / 2**30:.3g} GiB'
  if found is None:
    print(f'{field}: none fits into {limit}')
    return
  number, needs = found
  print(
    f'{field}: the largest power of two that fits into {limit} is {number:,} '
    f'({_size(needs.total)})'
  )


def _table(needs, config, mesh) -> str:
  kind = mesh.devices.flat[0].device_kind
  lines = [
    f'of each of {mesh.size} devices ({kind}), batch_size {config.batch_size:,}'
    + (f', microbatch {config.microbatch:,}' if config.microbatch else '')
  ]
  names = {
    'parameters': 'parameters',
    'optimizer': "the optimizer's state",
    'state': 'moving averages, statistics',
    'queue': 'queue or memory bank',
    'input': 'input',
    'temporary': 'activations, gradients, loss',
    'output': 'embeddings, metrics',
    'total': 'together',
  }
  for field, name in names.items():
    lines.append(f'  {name:<30}{_size(getattr(needs, field)):>12}')
  lines.append(f'compiled in {needs.seconds:.0f} s')
  if needs.operations:
    lines[-1] += f'; {needs.operations:.3g} floating-point operations a step'
  return '\n'.join(lines)


def _size(count: int) -> str:
  if count >= 2**30:
    return f'{count / 2**30:,.2f} GiB'
  return f'{count / 2**20:,.2f} MiB'


def _bytes(text: str) -> float:
  match = re.fullmatch(r'(\d+\.?\d*)\s*(MiB|GiB)', text)
  if not match or not float(match[1]):
    raise Error(f"--memory is '{text}': write 16GiB or 800MiB")
  return float(match[1]) * _UNITS[match[2]]


def _check(options: argparse.Namespace) -> None:
  least = {'devices': 1, 'images': 1, 'classes': 0, 'channels': 1}
  for name, lowest in least.items():
    if (value := getattr(options, name)) < lowest:
      raise Error(f'--{name} is {value}: it must be at least {lowest}')


if __name__ == '__main__':
  main(sys.argv)
