"""The main job's loop, data and all, against its step on one batch in memory.

  python -m experiments.benchmarks.end_to_end [SOURCE]

SOURCE: idx:/usr/share/datasets/fashion-mnist (Debian's package
dataset-fashion-mnist) if not given.
"""

import os
import sys

import jax

from configs import simclr_small
from contrastive_jax.commands import command_line
from contrastive_jax.training import build, step
from experiments.benchmarks import timing

STEPS = 15


def main(source: str) -> None:
  """Prints both throughputs and their ratio."""
  config = simclr_small.get_config(source)
  config.encoder.width = 16
  config.batch_size = 256
  job = build.build(config)
  train_step = step.mapped(
    step.make_train_step(job.objective, job.optimizer, job.modality), job.mesh
  )
  fixed = build.first_batch(job)
  state = build.init_state(job)

  def run(next_batch):
    nonlocal state
    before = None
    for _ in range(STEPS):
      batch = next_batch()
      (state, metrics), _ = train_step(state, batch)
      # As the loop does: no more than one step under way.
      jax.block_until_ready(before)
      before = metrics
    return state.step

  def end_to_end():
    # Opened within: nothing is read ahead while the other side runs.
    batches = build.train_batches(job, 0)
    run(lambda: next(batches))
    batches.close()
    return state.step

  timing.compare(
    'images end to end against the step alone',
    end_to_end,
    lambda: run(lambda: fixed),
    items=STEPS * config.batch_size,
    rounds=3,
    target=0.9,
  )


if __name__ == '__main__':
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  main((sys.argv[1:] or ['idx:/usr/share/datasets/fashion-mnist'])[0])
