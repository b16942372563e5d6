"""On a CPU: one XLA device a core against a single one, the same step.

python -m experiments.benchmarks.cpu_devices
"""

import os

import jax

from configs import simclr_small
from contrastive_jax.commands import command_line
from contrastive_jax.training import build, step
from experiments.benchmarks import timing


def main() -> None:
  """Prints both throughputs and their ratio."""
  config = simclr_small.get_config('digits')
  config.data.image_size = 28
  config.encoder.width = 16
  config.batch_size = 512

  def make(devices):
    mesh = step.make_mesh(jax.devices()[:devices])
    return timing.stepper(build.build(config, mesh))

  timing.compare(
    f'images a step, {jax.device_count()} devices against 1',
    make(jax.device_count()),
    make(1),
    items=config.batch_size,
    target=1.3,
  )


if __name__ == '__main__':
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  main()
