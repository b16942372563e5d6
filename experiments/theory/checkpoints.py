"""Do alignment and uniformity tell which checkpoint of a run is better?

  python -m contrastive_jax.main --workdir=runs/t02 --config.steps=1000 \
      --config.objective.temperature=0.2 --config.checkpoint.every_steps=100 \
      --config.checkpoint.keep=10
  python -m experiments.theory.checkpoints --workdir=runs/t02 \
      --workdir=runs/t05 --output=runs/checkpoints

Every checkpoint that a run has kept: alignment, uniformity and effective rank
of its projector's embeddings, all of the same two augmented views of the same
images, and the weighted kNN accuracy of its encoder (config.evaluation; of the
held-out part of train, if the run has one). Spearman's rank correlation of each
score with the accuracy, over the checkpoints of each run: another question than
label_free.py's, which compares runs at their end. Neighboring checkpoints are
alike, so an interval would claim too much, and there is none.

Writes checkpoints.csv, checkpoints.md and checkpoints.png.

Reference: Wang & Isola 2020 (arXiv 2005.10242), section 5 and figure 7.
"""

import argparse
import csv
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.diagnostics import embedding
from contrastive_jax.evaluation import encoder, knn
from contrastive_jax.training import build, step
from contrastive_jax.training.checkpoint import Checkpoints
from experiments.theory import represent
from experiments.theory.label_free import spearman

SCORES = ('alignment', 'uniformity', 'effective_rank')
LEAST = 3


class Measured(NamedTuple):
  """A checkpoint."""

  run: str
  temperature: float  # NaN for an objective without one
  step: int
  accuracy: float
  alignment: float
  uniformity: float
  effective_rank: float


def measure(workdir: pathlib.Path) -> list[Measured]:
  """Measures the checkpoints of a run.

  Args:
    workdir: of it.

  Returns:
    A line a checkpoint, the oldest first.

  Raises:
    FileNotFoundError: there is no run.
    ValueError: fewer than 3 checkpoints, or data without labels.
  """
  # One device: the batch statistics of the views are of the whole batch.
  job = build.build(
    encoder.read_config(workdir), step.make_mesh(jax.local_devices()[:1])
  )
  state = encoder.restore(job, workdir)
  train, test = job.source.train, job.source.test
  if len(job.config.augment.blur) < 2:
    raise ValueError(
      f'{job.config.objective.name} has 1 view of an image, and alignment is '
      'of 2'
    )
  if test is None or train.num_classes is None:
    raise ValueError(f'{workdir}: its data have no labels, or no test split')
  states = []
  with Checkpoints(
    workdir / 'checkpoints', every_steps=1, keep=10**6
  ) as checkpoints:
    for number in checkpoints.steps():
      try:
        restored = checkpoints.restore(state, number)
      except ValueError as error:
        print(f'left out: {error}', file=sys.stderr)
        continue
      if restored is not None:
        states.append(restored[0].replace(opt_state=()))  # it is not measured
  if len(states) < LEAST:
    raise ValueError(
      f'{workdir} has kept {len(states)} checkpoints, and a correlation takes '
      f'{LEAST}: train it with --config.checkpoint.keep'
    )
  views = represent.embeddings(job, states, test, embedding.ROWS)
  frozen, c, found = encoder.frozen(job), job.config.evaluation, []
  for state, of_state in zip(states, views, strict=True):
    encode = frozen(state)
    bank, labels, _ = encoder.encode(job, encode, train)
    queries, truth, _ = encoder.encode(job, encode, test)
    accuracy = knn.knn_accuracy(
      bank,
      labels,
      queries,
      truth,
      num_classes=train.num_classes,
      k=min(c.knn_k, len(bank)),
      temperature=c.knn_temperature,
    )
    scores = embedding.statistics([z[: embedding.ROWS] for z in of_state])
    found.append(
      Measured(
        run=str(workdir),
        temperature=job.config.objective.get('temperature', math.nan),
        step=int(state.step),
        accuracy=accuracy,
        **{name: scores[name] for name in SCORES},
      )
    )
  return found


def table(runs: Sequence[Sequence[Measured]]) -> str:
  """Returns Markdown: a line a run.

  Args:
    runs: of `measure`.
  """
  lines = [
    '| run | temperature | checkpoints | kNN, first to last, % | '
    + ' | '.join(f'{score.replace("_", " ")}, ρ' for score in SCORES)
    + ' |',
    '|' + '---|' * (4 + len(SCORES)),
  ]
  for run in runs:
    accuracies = np.array([m.accuracy for m in run])
    cells = [
      f'{spearman(np.array([getattr(m, s) for m in run]), accuracies):+.2f}'
      for s in SCORES
    ]
    name = pathlib.Path(run[0].run).name
    lines.append(
      f'| {name} | {run[0].temperature:g} | {len(run)} '
      f'| {100 * accuracies[0]:.1f} to {100 * accuracies[-1]:.1f} | '
      f'{" | ".join(cells)} |'
    )
  return '\n'.join(lines)


def plot(runs: Sequence[Sequence[Measured]]) -> Figure:
  """Draws each run's way through alignment and uniformity, and its accuracy.

  Args:
    runs: of `measure`.

  Returns:
    The figure.
  """
  figure = Figure((10, 4), layout='constrained')
  plane, over_steps = figure.subplots(1, 2)
  accuracies = [100 * m.accuracy for run in runs for m in run]
  points = None
  for i, run in enumerate(runs):
    name = f'{pathlib.Path(run[0].run).name}, T = {run[0].temperature:g}'
    x, y = ([getattr(m, s) for m in run] for s in SCORES[:2])
    plane.plot(x, y, color=f'C{i}', linewidth=1, label=name)
    points = plane.scatter(
      x,
      y,
      c=[100 * m.accuracy for m in run],
      vmin=min(accuracies),
      vmax=max(accuracies),
      s=24,
      zorder=3,
    )
    over_steps.plot(
      [m.step for m in run],
      [100 * m.accuracy for m in run],
      color=f'C{i}',
      marker='.',
      label=name,
    )
  assert points is not None
  figure.colorbar(points, ax=plane, label='kNN, %')
  plane.set_xlabel('alignment (0: views are one)')
  plane.set_ylabel('uniformity (-4: even)')
  over_steps.set_xlabel('step')
  over_steps.set_ylabel('kNN, %')
  for axis in (plane, over_steps):
    axis.grid(alpha=0.3)
    axis.legend(fontsize='small')
  return figure


def study(workdirs: Sequence[pathlib.Path], output: pathlib.Path) -> str:
  """Measures all runs, and writes tables and plot.

  Args:
    workdirs: of runs that have kept checkpoints.
    output: where to.

  Returns:
    The table.
  """
  runs = [measure(workdir) for workdir in workdirs]
  output.mkdir(parents=True, exist_ok=True)
  with (output / 'checkpoints.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(Measured._fields)
    writer.writerows(m for run in runs for m in run)
  plot(runs).savefig(output / 'checkpoints.png', dpi=120)
  text = table(runs)
  (output / 'checkpoints.md').write_text(text + '\n')
  return text


def main() -> None:
  """Measures, and writes tables and plot."""
  parser = argparse.ArgumentParser(description='Checkpoints of runs.')
  parser.add_argument(
    '--workdir', type=pathlib.Path, action='append', required=True
  )
  parser.add_argument('--output', type=pathlib.Path, required=True)
  args = parser.parse_args()
  try:
    print(study(args.workdir, args.output))
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
