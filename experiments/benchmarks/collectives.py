"""How often the devices talk to each other in a step.

  python -m experiments.benchmarks.collectives --config=byol_r50

The step is compiled for 8 simulated devices; no data is needed and nothing
runs. Every batch norm over the global batch waits for one collective in each
direction of each pass, as in Flax; the compiler puts gradients together.
"""

import argparse
import collections
import re

import jax

from contrastive_jax.commands import command_line
from contrastive_jax.training import build, memory, step

KINDS = 'all.reduce|all.gather|reduce.scatter|collective.permute|all.to.all'


def main() -> None:
  """Prints the counts before and after the compiler."""
  parser = argparse.ArgumentParser(description='Counts collectives.')
  parser.add_argument('--config', default='byol_r50')
  options, overrides = parser.parse_known_args()
  config = command_line.read_config(
    ['', f'--config={options.config}', *overrides]
  )
  source = memory.stand_in(config, images=1_281_167, classes=1000, channels=3)
  job = build.build(config, step.make_mesh(), source)
  lowered = build.global_step(job, donate=True).lower(
    build.state_shapes(job), memory.batch_shapes(job)
  )
  compiled = lowered.compile().as_text() or ''
  found = {
    'as written': re.findall(rf'stablehlo\.({KINDS})\b', lowered.as_text()),
    'compiled': re.findall(rf' ({KINDS})\(', compiled),
  }
  for name, kinds in found.items():
    counts = dict(collections.Counter(kinds))
    print(f'{jax.device_count()} devices, {name}: {len(kinds)} {counts}')


if __name__ == '__main__':
  command_line.set_up_cpu(8)
  main()
