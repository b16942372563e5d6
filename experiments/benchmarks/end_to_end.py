"""The main job's loop, data and all, against its step on one batch in memory.

  python -m experiments.benchmarks.end_to_end [SOURCE]

SOURCE: idx:/usr/share/datasets/fashion-mnist (Debian's package
dataset-fashion-mnist) if not given.
"""

import os
import sys

import jax

from configs import simclr_small
from contrastive_jax import build, step
from experiments.benchmarks import timing

STEPS = 5


def main(source: str) -> None:
  """Prints both throughputs and their ratio."""
  config = simclr_small.get_config(source)
  config.encoder.width = 16
  config.batch_size = 256
  job = build.build(config)
  train_step = step.mapped(
    step.make_train_step(job.objective, job.optimizer, job.config), job.mesh
  )
  batches = build.train_batches(job, 0)
  fixed = next(batches)
  state = build.init_state(job)

  def run(next_batch):
    nonlocal state
    for _ in range(STEPS):
      state, metrics = train_step(state, next_batch())
      # As the loop does: no more than one step under way.
      jax.block_until_ready(metrics)
    return state.step

  timing.compare(
    'images end to end',
    lambda: run(lambda: next(batches)),
    lambda: run(lambda: fixed),
    items=STEPS * config.batch_size,
    target=0.9,
  )
  batches.close()


if __name__ == '__main__':
  jax.config.update('jax_num_cpu_devices', len(os.sched_getaffinity(0)))
  main((sys.argv[1:] or ['idx:/usr/share/datasets/fashion-mnist'])[0])
