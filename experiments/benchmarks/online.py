"""What an evaluation every epoch costs: of the training time, 2 % at most.

  python -m experiments.benchmarks.online

SimCLR on Fashion-MNIST as configs/simclr_fashion_mnist.py has it: the time of a
step, times the steps of an epoch, beside that of one `during.Watch.measure`, in
turn, in one process.
"""

import pathlib
import statistics
import tempfile

import jax

from configs import simclr_fashion_mnist
from contrastive_jax.commands import command_line
from contrastive_jax.evaluation import during
from contrastive_jax.training import build
from experiments.benchmarks import timing

ROUNDS, STEPS = 5, 10


def main() -> None:
  """Prints both times, and the share."""
  config = simclr_fashion_mnist.get_config()
  config.evaluation.every_epochs = 1.0
  job = build.build(config)
  take_step = timing.stepper(job)
  with tempfile.TemporaryDirectory() as name:
    watch = during.watch(job, pathlib.Path(name))
    assert watch is not None
    state = build.init_state(job)
    timing.seconds(take_step)
    timing.seconds(lambda: watch.measure(state))
    steps, measures = [], []
    for _ in range(ROUNDS):
      steps += [timing.seconds(take_step) for _ in range(STEPS)]
      measures.append(timing.seconds(lambda: watch.measure(state)))
  step, measure = statistics.median(steps), statistics.median(measures)
  epoch = step * job.run.steps_per_epoch
  print(
    f'{len(jax.devices())} devices: a step {step:.3f} s, an epoch of '
    f'{job.run.steps_per_epoch} steps {epoch:.0f} s, an evaluation '
    f'{measure:.2f} s: {measure / epoch:.2%}'
  )


if __name__ == '__main__':
  command_line.set_up_cpu(2)
  main()
