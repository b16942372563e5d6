"""What the watch over the embeddings costs, as a share of the training time.

  python -m experiments.benchmarks.health

One report's statistics against the steps between two reports, for SimCLR's 128
dimensions and VICReg's 2,048; a ResNet-18 of width 16 on 28 pixel images. The
share is smaller the larger the encoder is. Claimed: below 0.01.
"""

import os
import statistics

from configs import simclr_small, vicreg_small
from contrastive_jax.commands import command_line
from contrastive_jax.diagnostics import embedding
from contrastive_jax.training import build, step
from experiments.benchmarks import timing


def main() -> None:
  """Prints both times and their ratio, for both objectives."""
  for module in (simclr_small, vicreg_small):
    config = module.get_config('idx:/usr/share/datasets/fashion-mnist')
    config.encoder.width = 16
    config.batch_size = 128
    job = build.build(config)
    train_step = step.mapped(
      step.make_train_step(job.objective, job.optimizer, job.modality),
      job.mesh,
      donate=False,
    )
    batch, state = build.first_batch(job), build.init_state(job)
    _, embeddings = train_step(state, batch)

    def watch(embeddings=embeddings, mesh=job.mesh):
      return embedding.statistics(embedding.fetch(embeddings, mesh))

    watch()
    one_step, one_watch = (
      statistics.median(timing.seconds(fn) for _ in range(7))
      for fn in (lambda f=train_step, s=state, b=batch: f(s, b), watch)
    )
    interval = config.log.every_steps * one_step
    print(
      f'{config.objective.name}: {one_watch * 1e3:.1f} ms every '
      f'{interval:.1f} s of {config.log.every_steps} steps: share '
      f'{one_watch / interval:.5f}'
    )


if __name__ == '__main__':
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  main()
