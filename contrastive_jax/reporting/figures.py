"""The figures of a report, each a matplotlib Figure; no global state."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contrastive_jax.reporting import folder
from contrastive_jax.reporting.embeddings import Embeddings
from contrastive_jax.reporting.folder import Run

# Okabe and Ito's: told apart without color vision, too.
_COLORS = (
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#444444',
)
_DASHES = ('-', '--', ':', '-.')
_STYLE: Any = {
  'font.size': 9,
  'axes.titlesize': 10,
  'axes.titlelocation': 'left',
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'grid.color': '#e8e8e8',
  'axes.axisbelow': True,
  'axes.edgecolor': '#999999',
  'legend.frameon': False,
  'lines.linewidth': 1.6,
}
# With the limits of their axes: noise is to look small where it is small.
_HEALTH = (
  ('embedding_spread', 'spread (1 even, 0 one point)', (0, 1.05)),
  ('effective_rank', 'effective rank', (0, None)),
  ('rankme', 'RankMe', (0, None)),
  ('mean_cosine', 'mean cosine of two images', (-0.2, 1.05)),
  ('alignment', 'alignment (distance of two views)', (0, None)),
  ('uniformity', 'uniformity (0 one point, -4 even)', (-4.1, 0.1)),
)


@matplotlib.rc_context(_STYLE)
def loss(runs: Sequence[Run]) -> Figure:
  """Draws the loss and where chance is.

  Args:
    runs: of one objective, in the same axes; of several, whose losses cannot
      be compared, each in axes of its own.

  Returns:
    The figure.
  """
  objectives = {run.config.get('objective', {}).get('name') for run in runs}
  alone = len(objectives) > 1
  rows = math.ceil(len(runs) / 3) if alone else 1
  figure = Figure((9, 2.6 * rows if alone else 3.2), layout='constrained')
  columns = min(3, len(runs)) if alone else 1
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes in grid[len(runs) if alone else 1 :]:
    axes.set_visible(False)
  named = set()
  last = max(map(folder.steps_done, runs))
  for i, run in enumerate(runs):
    axes = grid[i if alone else 0]
    if alone:
      axes.set_title(run.name)
      axes.set_xlim(0, 1.05 * last)
    _line(axes, run, 'loss', i)
    steps, chance = folder.series(run, 'chance_loss')
    if chance:
      color, _ = _look(i)
      axes.plot(steps, chance, color=color, lw=1, ls=(0, (2, 2)))
    if chance and (axes, chance[-1]) not in named:
      named.add((axes, chance[-1]))
      axes.annotate(
        f'chance {chance[-1]:.2f}',
        (0.99, chance[-1]),
        xycoords=('axes fraction', 'data'),
        xytext=(0, -3),
        textcoords='offset points',
        ha='right',
        va='top',
        color='#555555',
        fontsize=8,
      )
    axes.set_xlabel('step')
    axes.set_ylabel('loss')
  if not alone:
    _legend(figure, runs)
  return figure


@matplotlib.rc_context(_STYLE)
def health(runs: Sequence[Run]) -> Figure:
  """Draws the six numbers behind the verdict, of all runs in the same axes."""
  figure = Figure((9, 4.6), layout='constrained')
  for axes, (key, title, limits) in zip(
    figure.subplots(2, 3).ravel(), _HEALTH, strict=True
  ):
    for i, run in enumerate(runs):
      _line(axes, run, key, i)
    axes.set_title(title)
    axes.set_ylim(*limits)
    axes.set_xlabel('step')
  _legend(figure, runs)
  return figure


# What is measured while training, see `evaluation/during.py`.
ONLINE = {
  'online_knn': 'kNN, share that is right',
  'online_probe': 'linear probe, share that is right',
  'online_rankme': 'RankMe of the features',
  'online_feature_rank': 'effective rank of the features',
}


@matplotlib.rc_context(_STYLE)
def online(runs: Sequence[Run]) -> Figure:
  """Draws what was measured while training, of all runs."""
  figure = Figure((9, 5.0), layout='constrained')
  four = zip(figure.subplots(2, 2).ravel(), ONLINE.items(), strict=True)
  for axes, (key, title) in four:
    for i, run in enumerate(runs):
      _line(axes, run, key, i)
    axes.set_title(title)
    axes.set_xlabel('step')
  _legend(figure, runs)
  return figure


@matplotlib.rc_context(_STYLE)
def learning_rate(runs: Sequence[Run]) -> Figure:
  """Draws the learning rate of all runs in the same axes."""
  figure = Figure((9, 2.4), layout='constrained')
  axes = figure.subplots()
  for i, run in enumerate(runs):
    _line(axes, run, 'learning_rate', i)
  axes.set_xlabel('step')
  axes.set_ylabel('learning rate')
  axes.set_ylim(bottom=0)
  _legend(figure, runs)
  return figure


@matplotlib.rc_context(_STYLE)
def spectra(runs: Sequence[Run], values: Sequence[np.ndarray | None]) -> Figure:
  """Draws singular values on a log scale.

  Args:
    runs: in the order of `values`.
    values: of `embeddings.spectrum`; None where a run has none.

  Returns:
    The figure.
  """
  figure = Figure((9, 3), layout='constrained')
  axes = figure.subplots()
  for i, (run, singular) in enumerate(zip(runs, values, strict=True)):
    if singular is not None:
      color, dashes = _look(i)
      axes.semilogy(
        np.arange(1, len(singular) + 1),
        # Below the rounding of float32 features there is nothing to see.
        np.where(singular > 1e-8, singular, np.nan),
        color=color,
        ls=dashes,
        label=run.name,
      )
  axes.set_xlabel('singular value, by size')
  axes.set_ylabel('relative to the largest')
  _legend(figure, runs)
  return figure


@matplotlib.rc_context(_STYLE)
def embedding_map(
  embeddings: Embeddings, pca: np.ndarray, tsne: np.ndarray | None
) -> Figure:
  """Draws the images as points, by class if there are labels.

  Args:
    embeddings: for the labels.
    pca: float [n, 2].
    tsne: float [n, 2], or None.

  Returns:
    The figure.
  """
  figure = Figure((9, 4.4), layout='constrained')
  maps = [('PCA', pca)] + ([] if tsne is None else [('t-SNE', tsne)])
  for i, (title, points) in enumerate(maps):
    axes = figure.add_subplot(1, 2, i + 1)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel('first dimension')
    axes.set_ylabel('second dimension')
    if embeddings.labels is None:
      axes.scatter(*points.T, s=6, color=_COLORS[0], alpha=0.6, lw=0)
      continue
    classes = np.unique(embeddings.labels)
    colors = matplotlib.colormaps[
      'tab10'
      if len(classes) <= 10
      else 'tab20'
      if len(classes) <= 20
      else 'hsv'
    ]
    for place, label in enumerate(classes):
      few = len(classes) <= 20
      color = colors(place if few else place / len(classes))
      mine = points[embeddings.labels == label]
      axes.scatter(*mine.T, s=6, color=color, alpha=0.7, lw=0)
      if few:
        # By name as well as by color.
        x, y = np.median(mine, axis=0)
        axes.text(
          x,
          y,
          embeddings.class_names[label],
          ha='center',
          va='center',
          weight='bold',
          path_effects=[
            patheffects.withStroke(linewidth=3, foreground='white')
          ],
        )
  return figure


def _look(i: int) -> tuple[str, str]:
  """Color and dashes of run number i."""
  return _COLORS[i % len(_COLORS)], _DASHES[i // len(_COLORS) % len(_DASHES)]


def _line(axes: Axes, run: Run, key: str, i: int) -> None:
  steps, values = folder.series(run, key)
  color, dashes = _look(i)
  # A line of one point would not be seen.
  marker = 'o' if len(steps) < 10 else None
  axes.plot(
    steps, values, color=color, ls=dashes, marker=marker, ms=3, label=run.name
  )


def _legend(figure: Figure, runs: Sequence[Run]) -> None:
  """Names the runs above all axes, if there are several."""
  if len(runs) > 1:
    figure.legend(
      *figure.axes[0].get_legend_handles_labels(),
      loc='outside upper left',
      ncols=min(4, len(runs)),
    )
