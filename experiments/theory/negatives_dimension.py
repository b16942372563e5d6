"""How many negatives does an accuracy need as the embedding's dimension grows?

  python -m experiments.theory.negatives_dimension \
      --sweep=runs/negatives_dimension
  python -m experiments.theory.negatives_dimension \
      --sweep=runs/negatives_dimension --targets=0.9,0.92,0.94

Reads results.csv of experiments/sweeps/negatives_dimension.py. Of each seed and
dimension: the number K of negatives (MoCo's queue) at which the accuracy first
reaches a target, interpolated in ln K. Literature has "roughly logarithmic":
K = a + b ln(dim) is fitted beside K = a + b dim, and which explains more is
said with a bootstrap over the points. Where the fewest negatives are enough, or
the most are not, K is not known, and in no fit: what a fit says is of the other
dimensions only.

Writes needed.csv, negatives_dimension.md and negatives_dimension.png into the
sweep's folder, or --output.
"""

import argparse
import csv
import itertools
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

RESAMPLES = 2000
# Dimensions at which K is known that a fit takes: two are always on a line.
LEAST = 3
_FIELDS = {
  'dim': 'objective.projector_output_size',
  'negatives': 'objective.queue_size',
  'seed': 'seed',
  'accuracy': 'linear_accuracy',
}


class Run(NamedTuple):
  """A point of the sweep."""

  dim: int
  negatives: int
  seed: int
  accuracy: float


class Needed(NamedTuple):
  """Negatives for a target: 0 if the fewest do, inf if the most do not."""

  target: float
  dim: int
  seed: int
  negatives: float


class Fit(NamedTuple):
  """K = a + b ln(dim) against K = a + b dim."""

  points: int
  dims: int
  slope: float  # b of ln(dim), with its 95 % interval
  low: float
  high: float
  explained: tuple[float, float]  # R^2 of ln(dim), of dim
  ahead: tuple[float, float]  # share of resamples in which it is the larger


def read(sweep: pathlib.Path) -> list[Run]:
  """Reads the points that are done.

  Args:
    sweep: work folder of the sweep.

  Returns:
    The runs that have an accuracy.

  Raises:
    FileNotFoundError: there is no results.csv.
    ValueError: it is of another sweep, or none of its runs is done.
  """
  path = sweep / 'results.csv'
  if not path.exists():
    raise FileNotFoundError(f'{sweep} has no results.csv: no point is done yet')
  with path.open(newline='') as file:
    rows = list(csv.DictReader(file))
  for field in _FIELDS.values():
    if rows and field not in rows[0]:
      raise ValueError(f'{path} has no column {field}: it is of another sweep')
  found = [
    Run(
      dim=int(row[_FIELDS['dim']]),
      negatives=int(row[_FIELDS['negatives']]),
      seed=int(row[_FIELDS['seed']]),
      accuracy=float(row[_FIELDS['accuracy']]),
    )
    for row in rows
    if row[_FIELDS['accuracy']]
  ]
  if not found:
    raise ValueError(f'no run of {path} has a linear accuracy')
  return found


def negatives_for(
  negatives: Sequence[int], accuracies: Sequence[float], target: float
) -> float:
  """Returns the number of negatives that first reaches an accuracy.

  Args:
    negatives: rising.
    accuracies: of each.
    target: accuracy.

  Returns:
    Interpolated in ln K; 0 if the fewest reach it, inf if none does.
  """
  if accuracies[0] >= target:
    return 0.0
  curve = zip(np.log(negatives), accuracies, strict=True)
  for (x, low), (x_next, high) in itertools.pairwise(curve):
    if high >= target:
      share = (target - low) / (high - low)
      return math.exp(x + share * (x_next - x))
  return math.inf


def default_targets(runs: Sequence[Run]) -> list[float]:
  """Returns a quarter, half and three quarters of the way up the settings."""
  means = [
    np.mean([run.accuracy for run in runs if run[:2] == setting])
    for setting in {run[:2] for run in runs}
  ]
  low, high = min(means), max(means)
  return [float(low + share * (high - low)) for share in (0.25, 0.5, 0.75)]


def needed(runs: Sequence[Run], targets: Sequence[float]) -> list[Needed]:
  """Returns the negatives that each target, dimension and seed needs."""
  found = []
  for target in targets:
    for dim, seed in sorted({(run.dim, run.seed) for run in runs}):
      curve = sorted(
        (run.negatives, run.accuracy)
        for run in runs
        if (run.dim, run.seed) == (dim, seed)
      )
      negatives, accuracies = zip(*curve, strict=True)
      k = negatives_for(negatives, accuracies, target)
      found.append(Needed(target, dim, seed, k))
  return found


def fit(points: Sequence[Needed], seed: int = 0) -> Fit | None:
  """Fits K against ln(dim) and against dim.

  Args:
    points: of one target.
    seed: of the bootstrap over the points.

  Returns:
    Both fits; None if K is known at fewer than 3 dimensions.
  """
  points = [p for p in points if 0 < p.negatives < math.inf]
  dims = np.array([p.dim for p in points], float)
  k = np.array([p.negatives for p in points])
  if len(set(dims)) < LEAST:
    return None
  rng = np.random.default_rng(seed)
  slopes, explained = [], []
  for _ in range(RESAMPLES):
    rows = rng.integers(len(k), size=len(k))
    # Two dimensions are on a line of any kind.
    if len(set(dims[rows])) >= LEAST:
      slopes.append(np.polyfit(np.log(dims[rows]), k[rows], 1)[0])
      explained.append(_explained(dims[rows], k[rows]))
  by_log, by_dim = np.transpose(explained)
  low, high = np.quantile(slopes, (0.025, 0.975))
  return Fit(
    points=len(points),
    dims=len(set(dims)),
    slope=float(np.polyfit(np.log(dims), k, 1)[0]),
    low=float(low),
    high=float(high),
    explained=_explained(dims, k),
    ahead=(float(np.mean(by_log > by_dim)), float(np.mean(by_dim > by_log))),
  )


def _explained(dims, k) -> tuple[float, float]:
  """R^2 of both lines; 0 of a constant K, which neither explains."""
  if np.ptp(k) == 0:
    return 0.0, 0.0
  by_log, by_dim = (np.corrcoef(x, k)[0, 1] ** 2 for x in (np.log(dims), dims))
  return float(by_log), float(by_dim)


def _sentence(points: Sequence[Needed]) -> str:
  """Says what was found for the target that all points are of."""
  few = sum(p.negatives == 0 for p in points)
  never = sum(p.negatives == math.inf for p in points)
  start = f'{100 * points[0].target:.1f} %: '
  left_out = (
    f'Not known, of {len(points)} seeds and dimensions: {few} where the fewest '
    f'negatives are enough, {never} that never reach it.'
  )
  found = fit(points)
  if found is None:
    return f'{start}K is known at fewer than {LEAST} dimensions: no fit. ' + (
      left_out
    )
  by_log, by_dim = found.explained
  log_ahead, dim_ahead = (100 * share for share in found.ahead)
  verdict = 'which of them explains more is not settled'
  if max(found.ahead) >= 0.95:
    better = 'ln(dim)' if log_ahead > dim_ahead else 'dim'
    verdict = f'{better} explains more'
  return (
    f'{start}{verdict}: R² {by_log:.2f} of ln(dim), {by_dim:.2f} of dim, at '
    f'{found.points} points of {found.dims} dimensions; ln(dim) is ahead in '
    f'{log_ahead:.0f} % and dim in {dim_ahead:.0f} % of {RESAMPLES:,} '
    f'resamples. K changes by {found.slope:+.0f} ({found.low:+.0f} to '
    f'{found.high:+.0f}) as the dimension grows by a factor of e. {left_out}'
  )


def _table(found: Sequence[Needed], runs: Sequence[Run]) -> str:
  """Returns Markdown: a line a target, a column a dimension, all seeds."""
  dims = sorted({p.dim for p in found})
  ends = {
    dim: sorted(run.negatives for run in runs if run.dim == dim) for dim in dims
  }

  def text(p: Needed) -> str:
    if p.negatives == 0:
      return f'≤ {ends[p.dim][0]:,}'
    if p.negatives == math.inf:
      return f'> {ends[p.dim][-1]:,}'
    return f'{p.negatives:,.0f}'

  lines = [
    f'| accuracy | {" | ".join(f"dim {dim}" for dim in dims)} |',
    '|' + '---|' * (1 + len(dims)),
  ]
  for target, points in _by_target(found).items():
    cells = [
      ', '.join(map(text, sorted(of_dim, key=lambda p: p.negatives)))
      for of_dim in ([p for p in points if p.dim == dim] for dim in dims)
    ]
    lines.append(f'| {100 * target:.1f} % | {" | ".join(cells)} |')
  return '\n'.join(lines)


def _by_target(found: Sequence[Needed]) -> dict[float, list[Needed]]:
  targets = dict.fromkeys(p.target for p in found)
  return {t: [p for p in found if p.target == t] for t in targets}


def _plot(found: Sequence[Needed], runs: Sequence[Run]) -> Figure:
  """Draws accuracy against negatives, and negatives against dimension.

  On the left mean and standard deviation over seeds; on the right each seed,
  and lines through their geometric means.
  """
  figure = Figure((10, 4), layout='constrained')
  left, right = figure.subplots(1, 2)
  for number, dim in enumerate(sorted({run.dim for run in runs})):
    ks = sorted({run.negatives for run in runs if run.dim == dim})
    scores = [
      [100 * r.accuracy for r in runs if (r.dim, r.negatives) == (dim, k)]
      for k in ks
    ]
    left.errorbar(
      ks,
      [np.mean(values) for values in scores],
      yerr=[
        np.std(values, ddof=1) if len(values) > 1 else 0 for values in scores
      ],
      marker='.',
      capsize=2,
      color=f'C{number}',
      label=f'dim {dim}',
    )
  for number, (target, points) in enumerate(_by_target(found).items()):
    style = ('-', '--', ':', '-.')[number % 4]
    left.axhline(100 * target, color='gray', linewidth=0.8, linestyle=style)
    points = [p for p in points if 0 < p.negatives < math.inf]
    dims = sorted({p.dim for p in points})
    means = [
      np.exp(np.mean([np.log(p.negatives) for p in points if p.dim == dim]))
      for dim in dims
    ]
    (line,) = right.plot(
      dims, means, style, color=f'C{number}', label=f'{100 * target:.1f} %'
    )
    right.plot(
      [p.dim for p in points],
      [p.negatives for p in points],
      '.',
      color=line.get_color(),
    )
  for axes in (left, right):
    axes.set_xscale('log', base=2)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize='small')
  ks = sorted({run.negatives for run in runs})
  left.set_xticks(ks, [str(k) for k in ks])
  left.set_xlabel('negatives, K')
  left.set_ylabel('linear, %')
  if any(0 < p.negatives < math.inf for p in found):
    right.set_yscale('log', base=2)
  else:  # an empty axis has no logarithm
    right.set_yticks([])
    right.set_title('known nowhere', fontsize='medium')
  dims = sorted({run.dim for run in runs})
  right.set_xticks(dims, [str(dim) for dim in dims])
  right.set_xlim(dims[0] / 1.5, dims[-1] * 1.5)
  right.set_xlabel("the embedding's dimension")
  right.set_ylabel('negatives that reach it, K')
  return figure


def study(
  sweep: pathlib.Path, output: pathlib.Path, targets: Sequence[float] = ()
) -> str:
  """Inverts the sweep, and writes table and plot.

  Args:
    sweep: its work folder.
    output: where to.
    targets: accuracies; none: `default_targets`.

  Returns:
    The table, and what was found.

  Raises:
    FileNotFoundError: there is no results.csv.
    ValueError: it is of another sweep, or none of its runs is done.
  """
  runs = read(sweep)
  found = needed(runs, targets or default_targets(runs))
  output.mkdir(parents=True, exist_ok=True)
  with (output / 'needed.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(Needed._fields)
    writer.writerows(found)
  _plot(found, runs).savefig(output / 'negatives_dimension.png', dpi=120)
  seeds = len({run.seed for run in runs})
  text = '\n\n'.join(
    [
      f'Negatives that reach an accuracy, of {len(runs)} runs with {seeds} '
      f'{"seed" if seeds == 1 else "seeds"}; all seeds, in rising order.',
      _table(found, runs),
      *map(_sentence, _by_target(found).values()),
    ]
  )
  (output / 'negatives_dimension.md').write_text(text + '\n')
  return text


def main() -> None:
  """Inverts the sweep, and writes table and plot."""
  parser = argparse.ArgumentParser(description='Negatives and dimension.')
  parser.add_argument('--sweep', type=pathlib.Path, required=True)
  parser.add_argument('--output', type=pathlib.Path)
  parser.add_argument('--targets', default='', help='0.9,0.95')
  args = parser.parse_args()
  try:
    targets = [float(text) for text in args.targets.split(',') if text]
    print(study(args.sweep, args.output or args.sweep, targets))
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
