"""On a CPU: one XLA device a core against a single one, the same step.

python -m experiments.benchmarks.cpu_devices
"""

import os

import jax

from configs import simclr_small
from contrastive_jax import build, step
from experiments.benchmarks import timing


def main() -> None:
  """Prints both throughputs and their ratio."""
  config = simclr_small.get_config('digits')
  config.data.image_size = 28
  config.encoder.width = 16
  config.batch_size = 512

  def make(devices):
    job = build.build(config, step.make_mesh(jax.devices()[:devices]))
    train_step = step.mapped(
      step.make_train_step(job.objective, job.optimizer, job.config), job.mesh
    )
    batches = build.train_batches(job, 0)
    batch = next(batches)
    batches.close()
    state = build.init_state(job)

    def run():
      nonlocal state
      (state, metrics), _ = train_step(state, batch)
      return metrics

    return run

  timing.compare(
    f'images a step, {jax.device_count()} devices against 1',
    make(jax.device_count()),
    make(1),
    items=config.batch_size,
    target=1.3,
  )


if __name__ == '__main__':
  jax.config.update('jax_num_cpu_devices', len(os.sched_getaffinity(0)))
  main()
