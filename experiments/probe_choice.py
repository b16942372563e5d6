"""Is the probe that the grid chose as good as one hand-picked on test?

  python -m experiments.probe_choice --workdir=runs/compare/byol_0 \
      --workdir=runs/compare/simclr_0

Every head of a grid that is wider and finer than the probe's own is fitted to
all of the training features, and the best on the test data taken: what someone
would report who tuned learning rate and weight decay on test. The probe's own
choice saw no test label. Printed: both, their difference in points, and how far
apart the heads of the grid are.
"""

import argparse
import os
import sys

import numpy as np

from contrastive_jax import command_line
from contrastive_jax.evaluation import encoder, linear

RATES = (0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0)
DECAYS = (0.0, 1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1)


def compare(workdir: str) -> tuple[float, float, float]:
  """Returns the accuracy of the choice, of the best head and of the worst.

  Args:
    workdir: of a run on data with labels.
  """
  job, state = encoder.load(workdir)
  encode = encoder.frozen(job)(state)
  train, labels, _ = encoder.encode(job, encode, job.source.train)
  if job.source.test is None or job.run.num_classes is None:
    raise ValueError(f'{workdir}: the data has no labels, or no test split')
  test, truth, _ = encoder.encode(job, encode, job.source.test)
  options = {
    'num_classes': job.run.num_classes,
    'seed': job.config.seed,
    'epochs': job.config.evaluation.probe_epochs,
  }
  chosen = linear.fit_probe(train, labels, **options)
  # One by one: a grid of one pair has nothing to choose.
  accuracies = []
  for rate in RATES:
    for decay in DECAYS:
      head = linear.fit_probe(
        train,
        labels,
        learning_rates=(rate,),
        weight_decays=(decay,),
        **options,
      )
      accuracies.append(float(np.mean(head.predict(test) == truth)))
  ours = float(np.mean(chosen.predict(test) == truth))
  return ours, max(accuracies), min(accuracies)


def main() -> None:
  """Prints a line a run, in Markdown."""
  parser = argparse.ArgumentParser(description='The probe against the best.')
  parser.add_argument('--workdir', action='append', required=True)
  print(
    f'| run | chosen, % | best of {len(RATES) * len(DECAYS)} on test, % '
    '| points short | worst, % |'
  )
  print('|---|---|---|---|---|')
  for workdir in parser.parse_args().workdir:
    try:
      ours, best, worst = compare(workdir)
    except (ValueError, OSError) as error:
      sys.exit(f'error: {error}')
    print(
      f'| {os.path.basename(os.path.normpath(workdir))} | {100 * ours:.2f} | '
      f'{100 * best:.2f} | {100 * (best - ours):.2f} | {100 * worst:.2f} |',
      flush=True,
    )


if __name__ == '__main__':
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  main()
