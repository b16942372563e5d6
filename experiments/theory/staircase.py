"""What estimates of a staircase of mutual information say: table and plot."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure


def plateaus(
  estimates: np.ndarray, levels: Sequence[float]
) -> list[tuple[float, float, float]]:
  """Returns what an estimator says of each level.

  Args:
    estimates: [len(levels) * steps], of `train`.
    levels: the true mutual information, in nats.

  Returns:
    The truth, and mean and standard deviation of the estimates, over the last
    half of each level's steps.
  """
  of_level = np.split(np.asarray(estimates, np.float64), len(levels))
  # An estimate of -inf has no standard deviation.
  with np.errstate(invalid='ignore'):
    return [
      (level, float(part.mean()), float(part.std()))
      for level, part in zip(
        levels, (part[len(part) // 2 :] for part in of_level), strict=True
      )
    ]


def plot(
  curves: Mapping[str, Mapping[str, np.ndarray]],
  levels: Sequence[float],
  batch_size: int,
) -> Figure:
  """Draws a panel an estimator: its estimates, smoothed ones, and the truth.

  Args:
    curves: title to critic to estimates [len(levels) * steps].
    levels: the true mutual information, in nats.
    batch_size: K, for the line at ln K.

  Returns:
    The figure.
  """
  columns = min(5, len(curves))
  rows = math.ceil(len(curves) / columns)
  figure = Figure((3.2 * columns, 2.8 * rows + 0.8), layout='constrained')
  axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
  for axis in axes.flat[len(curves) :]:
    axis.set_visible(False)
  panels = list(axes.flat[: len(curves)])
  critics = list(
    dict.fromkeys(critic for of in curves.values() for critic in of)
  )
  for axis, (estimator, of_critic) in zip(panels, curves.items(), strict=True):
    for critic, estimates in of_critic.items():
      color = f'C{critics.index(critic)}'
      axis.plot(estimates, color=color, alpha=0.2, linewidth=0.5)
      axis.plot(smoothed(estimates), color=color, linewidth=1.2, label=critic)
      truth = np.repeat(levels, len(estimates) // len(levels))
    axis.plot(truth, color='black', linewidth=1, label='truth')
    axis.axhline(
      math.log(batch_size),
      color='gray',
      linestyle='--',
      linewidth=1,
      label=f'ln {batch_size}',
    )
    axis.set_title(estimator)
  panels[0].set_ylim(-1, 1.4 * max(levels))
  figure.supxlabel('step')
  figure.supylabel('mutual information, nats')
  handles, labels = max(
    (axis.get_legend_handles_labels() for axis in panels),
    key=lambda found: len(found[1]),
  )
  figure.legend(
    handles,
    labels,
    loc='outside upper center',
    ncols=len(labels),
    frameon=False,
  )
  return figure


def smoothed(estimates: np.ndarray, span: int = 200) -> np.ndarray:
  """Returns the exponential moving average of estimates.

  Args:
    estimates: [n].
    span: in steps, as a moving average's width: the newest has the share
      2 / (span + 1). At the start all that there is has its usual weights.

  Returns:
    float64 [n].
  """
  share = 2 / (span + 1)
  result = np.empty(len(estimates))
  total = weight = 0.0
  for i, estimate in enumerate(estimates):
    total = (1 - share) * total + estimate
    weight = (1 - share) * weight + 1
    result[i] = total / weight
  return result


def table(
  rows: Sequence[Mapping[str, str | int | float]], labels: Mapping[str, str]
) -> str:
  """Returns Markdown: a line an estimator, critic and data, a column a level.

  Args:
    rows: of gaussian.csv.
    labels: what to call each of their estimators.

  Returns:
    The table; mean and standard deviation over steps, each averaged over
    seeds, and the standard deviation of the means of the seeds, if several.
  """
  levels = sorted({float(row['true_nats']) for row in rows})
  found: dict[tuple, dict[float, list]] = {}
  for row in rows:
    label = labels[str(row['estimator'])]
    line = found.setdefault((label, row['critic'], row['data']), {})
    line.setdefault(float(row['true_nats']), []).append(
      (float(row['mean']), float(row['std']))
    )
  lines = [
    '| estimator | critic | data | '
    + ' | '.join(f'{level:g} nats' for level in levels)
    + ' |',
    '|' + '---|' * (3 + len(levels)),
  ]
  for key, line in found.items():
    cells = []
    for level in levels:
      means, deviations = np.transpose(line[level])
      cell = f'{np.mean(means):.2f} ± {np.mean(deviations):.2f}'
      if len(means) > 1:
        cell += f' (seeds ± {np.std(means, ddof=1):.2f})'
      cells.append(cell)
    lines.append(f'| {" | ".join([*key, *cells])} |')
  return '\n'.join(lines)
