"""Which label-free score says how good an encoder is? Over many finished runs.

  python -m experiments.theory.label_free --output=runs/label_free \
      --sweep=runs/temperature_batch_size
  python -m experiments.theory.label_free --output=runs/label_free \
      --workdir=runs/simclr_0 --workdir=runs/simclr_1 ...

Spearman's rank correlation of each score at the end of training with the linear
accuracy in summary.json. Alignment, uniformity, spread and the two ranks are of
the projector's embeddings of at most 256 augmented images; the feature rank is
of the encoder, which the accuracy is of, too. A loss can be compared between
runs of one objective and temperature only.

The 95 % interval is a bootstrap over settings, whose seeds go together; of
fewer than 5 settings over runs. It says nothing of other settings, data or
objectives than these.

Writes label_free.csv, correlations.csv, label_free.md and label_free.png.

Reference: Wang & Isola 2020 (arXiv 2005.10242), figure 5; Garrido et al. 2022
(RankMe, arXiv 2210.02885).
"""

import argparse
import csv
import json
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from contrastive_jax.reporting import folder

# Of each score, what the table and the plot call it.
SCORES = {
  'alignment': 'alignment (0: views are one)',
  'uniformity': 'uniformity (-4: even)',
  'alignment_uniformity': 'alignment + uniformity',
  'effective_rank': 'effective rank',
  'rankme': 'RankMe',
  'embedding_spread': 'spread (1: even)',
  'feature_rank': 'effective rank of features',
  'loss': 'loss',
}
LEAST = 5
RESAMPLES = 2000


class Ended(NamedTuple):
  """A run that has ended; a score that it does not have is NaN."""

  name: str
  setting: str  # its config, but for the seed
  scored_on: str
  temperature: float | None
  accuracy: float
  scores: dict[str, float]


class Correlation(NamedTuple):
  """Spearman's, with its 95 % interval; NaN of scores that are all alike."""

  score: str
  runs: int
  value: float
  low: float
  high: float


def read(path: pathlib.Path) -> Ended:
  """Reads a work folder.

  Args:
    path: of it.

  Returns:
    Its scores; those of summary.json, or of the last line of metrics.jsonl.

  Raises:
    FileNotFoundError: it is no work folder, or the run has not ended.
    ValueError: it has no linear accuracy.
  """
  run = folder.read(path)
  if not run.summary:
    raise FileNotFoundError(f'{path} has no summary.json: {" ".join(run.gaps)}')
  accuracy = run.summary.get('linear_accuracy')
  if accuracy is None:
    raise ValueError(
      f'{path} has no linear accuracy: its data have no labels, or it stopped '
      'at a collapse'
    )
  held_out = run.config.get('data', {}).get('held_out', 0)
  setting = {k: v for k, v in run.config.items() if k != 'seed'}
  found = {}
  for key in SCORES:
    value = folder.latest(run, key)
    if value is None and run.reports:
      value = run.reports[-1].get(key)
    found[key] = math.nan if value is None else float(value)
  # With equal weights, as Wang & Isola minimize them.
  found['alignment_uniformity'] = found['alignment'] + found['uniformity']
  return Ended(
    name=str(path),
    setting=json.dumps(setting, sort_keys=True),
    scored_on='a held-out part of train' if held_out else 'test',
    temperature=run.config.get('objective', {}).get('temperature'),
    accuracy=float(accuracy),
    scores=found,
  )


def read_all(
  workdirs: Sequence[pathlib.Path], sweep: pathlib.Path | None
) -> list[Ended]:
  """Reads work folders, and those of a sweep's points that have ended.

  A point that ended at its collapse has no accuracy, and is left out.

  Args:
    workdirs: of runs that have ended.
    sweep: work folder of a sweep.

  Returns:
    The runs.

  Raises:
    FileNotFoundError: a folder is not what it should be.
    ValueError: there are fewer than 5 runs, or one has no accuracy.
  """
  paths = list(workdirs)
  if sweep is not None:
    points = sorted((sweep / 'points').glob('*/config.json'))
    if not points:
      raise FileNotFoundError(f'{sweep} is no sweep: there are no points in it')
    summaries = [p.with_name('summary.json') for p in points]
    paths += [
      path.parent
      for path in summaries
      if path.exists()
      and json.loads(path.read_text()).get('linear_accuracy') is not None
    ]
  if len(paths) < LEAST:
    raise ValueError(
      f'{len(paths)} runs have an accuracy, and a correlation takes at least '
      f'{LEAST}'
    )
  return [read(path) for path in paths]


def spearman(x: np.ndarray, y: np.ndarray) -> float:
  """Returns Spearman's rank correlation; NaN where x or y is constant."""
  ranks = [scipy.stats.rankdata(values) for values in (x, y)]
  if any(np.ptp(rank) == 0 for rank in ranks):
    return math.nan
  return float(np.corrcoef(*ranks)[0, 1])


def correlation(
  score: str,
  values: np.ndarray,
  accuracies: np.ndarray,
  settings: Sequence[str],
  seed: int = 0,
) -> Correlation:
  """Returns the rank correlation of a score with accuracy, and its interval.

  Args:
    score: its name.
    values: [n]; runs where it is NaN are left out.
    accuracies: [n].
    settings: [n]; runs of equal ones are drawn together.
    seed: of the bootstrap.

  Returns:
    The correlation.
  """
  there = np.isfinite(values)
  values, accuracies = values[there], accuracies[there]
  _, groups = np.unique(np.asarray(settings)[there], return_inverse=True)
  if len(set(groups)) < LEAST:
    groups = np.arange(len(values))
  value = spearman(values, accuracies) if len(values) >= LEAST else math.nan
  if math.isnan(value):
    return Correlation(score, len(values), value, value, value)
  members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(RESAMPLES):
    drawn = rng.integers(len(members), size=len(members))
    rows = np.concatenate([members[i] for i in drawn])
    found.append(spearman(values[rows], accuracies[rows]))
  # A resample of one run, many times, has no correlation.
  low, high = np.nanquantile(found, (0.025, 0.975))
  return Correlation(score, len(values), value, float(low), float(high))


def correlations(runs: Sequence[Ended]) -> list[Correlation]:
  """Returns the correlation of each score that any of the runs has."""
  accuracies = np.array([run.accuracy for run in runs])
  settings = [run.setting for run in runs]
  found = [
    correlation(
      score, np.array([run.scores[score] for run in runs]), accuracies, settings
    )
    for score in SCORES
  ]
  return [row for row in found if row.runs]


def table(rows: Sequence[Correlation]) -> str:
  """Returns Markdown: a line a score.

  Args:
    rows: of `correlations`.
  """
  lines = [
    '| score | rank correlation with accuracy | 95 % interval | runs |',
    '|' + '---|' * 4,
  ]
  for row in rows:
    value, interval = f'{row.value:+.2f}', f'{row.low:+.2f} to {row.high:+.2f}'
    if math.isnan(row.value):
      value, interval = 'undefined', ''
    lines.append(f'| {SCORES[row.score]} | {value} | {interval} | {row.runs} |')
  return '\n'.join(lines)


def plot(runs: Sequence[Ended], rows: Sequence[Correlation]) -> Figure:
  """Draws accuracy against each score, and over alignment and uniformity.

  Args:
    runs: as they are.
    rows: of `correlations`.

  Returns:
    The figure.
  """
  columns = 5
  lines = math.ceil((len(rows) + 1) / columns)
  figure = Figure((3.3 * columns, 3.1 * lines), layout='constrained')
  axes = list(figure.subplots(lines, columns, squeeze=False).flat)
  accuracies = [100 * run.accuracy for run in runs]
  temperatures = [run.temperature or math.nan for run in runs]
  varies = len(set(temperatures)) > 1 and np.isfinite(temperatures).all()
  norm = LogNorm(min(temperatures), max(temperatures)) if varies else None
  points = None
  for panel, row in zip(axes, rows, strict=False):
    points = panel.scatter(
      [run.scores[row.score] for run in runs],
      accuracies,
      s=18,
      c=temperatures if varies else 'C0',
      norm=norm,
      cmap='plasma' if varies else None,
    )
    panel.set_xlabel(SCORES[row.score])
    title = f'ρ = {row.value:+.2f}'
    panel.set_title(
      'ρ is undefined' if math.isnan(row.value) else title,
      loc='left',
      fontsize='medium',
    )
  if varies:
    assert points is not None
    bar = figure.colorbar(
      points,
      ax=axes[columns - 1],
      label='temperature',
      ticks=sorted(set(temperatures)),
      format='%g',
    )
    bar.minorticks_off()
  for panel in axes[: len(rows) : columns]:
    panel.set_ylabel('linear, %')
  plane = axes[len(rows)]
  points = plane.scatter(
    [run.scores['alignment'] for run in runs],
    [run.scores['uniformity'] for run in runs],
    s=18,
    c=accuracies,
    norm=Normalize(),
  )
  plane.set_xlabel(SCORES['alignment'])
  plane.set_ylabel(SCORES['uniformity'])
  figure.colorbar(points, ax=plane, label='linear, %')
  for panel in axes[len(rows) + 1 :]:
    panel.set_visible(False)
  for panel in axes[: len(rows) + 1]:
    panel.grid(alpha=0.3)
    panel.set_axisbelow(True)
  return figure


def study(runs: Sequence[Ended], output: pathlib.Path) -> str:
  """Correlates, and writes tables and plot.

  Args:
    runs: at least 5.
    output: where to.

  Returns:
    The table, and what it rests on.
  """
  rows = correlations(runs)
  output.mkdir(parents=True, exist_ok=True)
  with (output / 'label_free.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['run', 'temperature', 'linear_accuracy', *SCORES])
    writer.writerows(
      [run.name, run.temperature, run.accuracy, *run.scores.values()]
      for run in runs
    )
  with (output / 'correlations.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(Correlation._fields)
    writer.writerows(rows)
  plot(runs, rows).savefig(output / 'label_free.png', dpi=120)
  accuracies = [100 * run.accuracy for run in runs]
  text = (
    f'{len(runs)} runs of {len({run.setting for run in runs})} settings, with '
    f'linear accuracies of {min(accuracies):.1f} to {max(accuracies):.1f} % on '
    f'{" and on ".join(sorted({run.scored_on for run in runs}))}.'
    f'\n\n{table(rows)}'
  )
  (output / 'label_free.md').write_text(text + '\n')
  return text


def main() -> None:
  """Correlates, and writes tables and plot."""
  parser = argparse.ArgumentParser(description='Label-free scores.')
  parser.add_argument('--workdir', type=pathlib.Path, action='append')
  parser.add_argument('--sweep', type=pathlib.Path)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  args = parser.parse_args()
  try:
    print(study(read_all(args.workdir or [], args.sweep), args.output))
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
