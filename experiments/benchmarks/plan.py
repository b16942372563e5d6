"""What `plan` says of a step, beside the peak of a process that runs it.

  python -m experiments.benchmarks.plan

Five objectives, ResNet-18 of width 16 at 28 x 28 pixels and one ViT, 256 images
a step, one device. A child process a config compiles the step twice, so that
the second time it is read from the cache, and the compiler's own memory is none
of the peak; then the peak is reset (Linux), and two steps run.
"""

import pathlib
import re
import subprocess
import sys

import jax

from contrastive_jax.commands import command_line, compiled
from contrastive_jax.config import Config
from contrastive_jax.training import build, memory, step
from experiments import small_configs

NAMES = ('simclr', 'moco', 'byol', 'swav', 'moco_v3_vit')


def config_of(name: str) -> Config:
  """Returns a config whose step takes some hundred mebibytes."""
  config = small_configs.load(name)
  config.data.image_size = 28
  config.batch_size = 256
  config.encoder.width = 16
  config.encoder.depth = 4 if 'vit' in name else 0
  if 'queue_size' in config.objective and config.objective.queue_size:
    config.objective.queue_size = 4096
  return config


def resident(what: str) -> int:
  """Returns VmRSS or VmHWM of this process, bytes."""
  status = pathlib.Path('/proc/self/status').read_text()
  match = re.search(rf'{what}:\s+(\d+) kB', status)
  assert match is not None
  return 1024 * int(match[1])


def measure(name: str) -> None:
  """Prints what is planned and what is seen, in bytes."""
  config = config_of(name)
  mesh = step.make_mesh(jax.devices()[:1])
  job = build.build(config, mesh)
  planned = memory.needs(config, job.source, mesh)
  state = build.init_state(job)
  batch = step.shard(build.first_batch(job), mesh)
  train_step = step.over_shards(
    step.make_train_step(job.objective, job.optimizer, job.modality),
    mesh,
    donate=True,
  )
  run = train_step.lower(state, batch).compile()
  jax.block_until_ready((state, batch))
  before = resident('VmRSS')
  pathlib.Path('/proc/self/clear_refs').write_text('5')
  for _ in range(2):
    (state, _), _ = jax.block_until_ready(run(state, batch))
  held = planned.total - planned.temporary - planned.output
  print('planned', planned.total, held + resident('VmHWM') - before)


def main() -> None:
  """Prints a line a config: planned, measured, and their ratio."""
  if len(sys.argv) > 1:
    compiled.keep()
    measure(sys.argv[1])
    return
  for name in NAMES:
    for _ in range(2):
      done = subprocess.run(
        [sys.executable, '-m', 'experiments.benchmarks.plan', name],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
      )
    _, planned, seen = done.stdout.split()
    print(
      f'{name}: planned {int(planned) / 2**20:,.0f} MiB, measured '
      f'{int(seen) / 2**20:,.0f}, ratio {int(planned) / int(seen):.3f}',
      flush=True,
    )


if __name__ == '__main__':
  command_line.set_up_cpu(1)
  main()
