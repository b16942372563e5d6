"""A plot of what a sweep found, for one score."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from contrastive_jax.sweeping.plan import setting_text
from contrastive_jax.sweeping.scores import SCORES, Setting, spread


def plot(settings: Sequence[Setting], key: str) -> Figure:
  """Returns the picture of one score.

  Two fields make a heat map, one of numbers makes a line with the spread over
  seeds; else there is a row for each setting.

  Args:
    settings: with the runs that are done.
    key: of the score, as in summary.json.
  """
  fields = list(settings[0].setting)
  values = [[s.setting[field] for s in settings] for field in fields]
  figure = Figure(layout='constrained')
  axes = figure.subplots()
  if len(fields) == 2:
    _heat_map(figure, axes, settings, fields, key)
  elif len(fields) == 1 and all(map(_is_number, values[0])):
    _line(figure, axes, settings, fields[0], key)
  else:
    _rows(figure, axes, settings, key)
  runs = sorted({len(s.scores(key)) for s in settings} - {0})
  seeds = '–'.join(map(str, dict.fromkeys((runs[0], runs[-1]))))
  spread_of = f'mean ± standard deviation of {seeds} seeds'
  figure.suptitle(spread_of if runs[-1] > 1 else 'one seed', fontsize='small')
  return figure


def _heat_map(
  figure: Figure,
  axes: Axes,
  settings: Sequence[Setting],
  fields: list[str],
  key: str,
) -> None:
  tall, wide = (
    _in_order([s.setting[field] for s in settings]) for field in fields
  )
  grid = np.full((len(tall), len(wide)), np.nan)
  labels = {}
  for setting in settings:
    if scores := setting.scores(key):
      row, column = (
        places.index(setting.setting[field])
        for places, field in zip((tall, wide), fields, strict=True)
      )
      grid[row, column] = statistics.mean(scores)
      labels[row, column] = spread(scores, '.1f').replace(' ±', '\n±')
  figure.set_size_inches(2.2 + 0.9 * len(wide), 1.6 + 0.55 * len(tall))
  image = axes.imshow(grid, aspect='auto', cmap='viridis')
  middle = (np.nanmin(grid) + 1.5 * np.nanmax(grid)) / 2.5
  for (row, column), label in labels.items():
    dark = grid[row, column] <= middle
    axes.text(
      column,
      row,
      label,
      ha='center',
      va='center',
      fontsize='small',
      color='white' if dark else 'black',
    )
  axes.set_xticks(range(len(wide)), [str(value) for value in wide])
  axes.set_yticks(range(len(tall)), [str(value) for value in tall])
  axes.set_ylabel(fields[0])
  axes.set_xlabel(fields[1])
  figure.colorbar(image, label=SCORES[key][0])


def _line(
  figure: Figure, axes: Axes, settings: Sequence[Setting], field: str, key: str
) -> None:
  found = sorted((s.setting[field], s.scores(key)) for s in settings)
  found = [(x, scores) for x, scores in found if scores]
  xs = [x for x, _ in found]
  means = np.array([statistics.mean(scores) for _, scores in found])
  deviations = np.array([_deviation(scores) for _, scores in found])
  figure.set_size_inches(6, 4)
  axes.plot(xs, means, marker='o', color='C0')
  axes.fill_between(
    xs, means - deviations, means + deviations, color='C0', alpha=0.2, lw=0
  )
  for x, scores in found:
    axes.plot([x] * len(scores), scores, '.', color='C0', alpha=0.5)
  if min(xs) > 0 and max(xs) / min(xs) > 10:
    axes.set_xscale('log')
    axes.xaxis.set_minor_locator(NullLocator())
  axes.set_xticks(xs, [str(x) for x in xs])
  axes.set_xlabel(field)
  axes.set_ylabel(SCORES[key][0])
  axes.grid(alpha=0.3)


def _rows(
  figure: Figure, axes: Axes, settings: Sequence[Setting], key: str
) -> None:
  found = [s for s in settings if s.scores(key)]
  figure.set_size_inches(7, 1.2 + 0.35 * len(found))
  for row, setting in enumerate(found):
    scores = setting.scores(key)
    axes.plot(scores, [row] * len(scores), '.', color='C0', alpha=0.4)
    axes.errorbar(
      statistics.mean(scores),
      row,
      xerr=_deviation(scores),
      fmt='o',
      capsize=3,
      color='C0',
    )
  names = [setting_text(s.setting) for s in found]
  axes.set_yticks(range(len(found)), names)
  axes.set_ylim(len(found) - 0.5, -0.5)  # the first on top
  axes.set_xlabel(SCORES[key][0])
  axes.grid(axis='x', alpha=0.3)


def _in_order(values: list[Any]) -> list[Any]:
  """Each value once; numbers rise, others stay as they come."""
  once = list(dict.fromkeys(values))
  return sorted(once) if all(map(_is_number, once)) else once


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _deviation(values: list[float]) -> float:
  return statistics.stdev(values) if len(values) > 1 else 0.0
