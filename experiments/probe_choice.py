"""Is the probe that was chosen as good as one hand-picked on test?

  python -m experiments.probe_choice --workdir=runs/compare/byol_0 \
      --workdir=runs/compare/simclr_0

Every head of a path that is wider and finer than the probe's own is fitted to
all of the training features, and the best on the test data taken: what someone
would report who tuned the weight decay on test. So is the best of
scikit-learn's logistic regressions, which are trained to the end. The probe's
own choice saw no test label. Printed: all three, how many points the choice is
short of the better of the two, and the worst head of the path.
"""

import argparse
import os
import sys
from typing import NamedTuple

import numpy as np

from contrastive_jax.commands import command_line
from contrastive_jax.evaluation import encoder, linear, protocols

DECAYS = (
  0.0,
  *(base * 10.0**power for power in range(-6, 0) for base in (1, 2, 5)),
  1.0,
)


class Compared(NamedTuple):
  """Accuracies on test; all but `chosen` are chosen there, too."""

  chosen: float
  best: float
  worst: float
  best_lbfgs: float


def compare(workdir: str) -> Compared:
  """Returns what the choice is worth, and what hindsight makes of it.

  Args:
    workdir: of a run on data with labels.

  Raises:
    ValueError: the data has no labels, or no test split.
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
  }
  chosen = linear.fit_probe(train, labels, **options)
  # One by one: a path of one decay has nothing to choose.
  accuracies = []
  for decay in DECAYS:
    head = linear.fit_probe(train, labels, weight_decays=(decay,), **options)
    accuracies.append(float(np.mean(head.predict(test) == truth)))
  lbfgs = protocols.lbfgs(train, labels, test, protocols.LBFGS_STRENGTHS)
  return Compared(
    chosen=float(np.mean(chosen.predict(test) == truth)),
    best=max(accuracies),
    worst=min(accuracies),
    best_lbfgs=max(float(np.mean(p == truth)) for p in lbfgs),
  )


def main() -> None:
  """Prints a line a run, in Markdown."""
  parser = argparse.ArgumentParser(description='The probe against the best.')
  parser.add_argument('--workdir', action='append', required=True)
  print(
    f'| run | chosen, % | best of {len(DECAYS)} on test, % '
    f'| best of {len(protocols.LBFGS_STRENGTHS)} by L-BFGS on test, % '
    '| points short | worst of the first, % |'
  )
  print('|---|---|---|---|---|---|')
  for workdir in parser.parse_args().workdir:
    try:
      found = compare(workdir)
    except (ValueError, OSError) as error:
      sys.exit(f'error: {error}')
    short = max(found.best, found.best_lbfgs) - found.chosen
    print(
      f'| {os.path.basename(os.path.normpath(workdir))} '
      f'| {100 * found.chosen:.2f} | {100 * found.best:.2f} '
      f'| {100 * found.best_lbfgs:.2f} | {100 * short:.2f} '
      f'| {100 * found.worst:.2f} |',
      flush=True,
    )


if __name__ == '__main__':
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  main()
