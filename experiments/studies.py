"""What studies of several runs share: train once, measure, print a table."""

import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from contrastive_jax.evaluation.run import evaluate
from experiments import small_configs

# Of those that mask patches: a rate for some hundred steps, as on digits.
FEW_STEPS = {
  'mae': {'optimizer.base_learning_rate': 1e-3},
  'dinov2': {
    'optimizer.base_learning_rate': 1e-3,
    'optimizer.scaling': 'linear',
  },
}

# Of each row, by its label, and each column: the values of all seeds.
Rows = dict[str, dict[str, list[float]]]


def train(
  workdir: pathlib.Path, name: str, source: str, overrides: Sequence[str]
) -> None:
  """Runs the main job, unless it is finished.

  Args:
    workdir: of the run.
    name: of the config, configs/NAME_small.py.
    source: of the data.
    overrides: further arguments.
  """
  if (workdir / 'summary.json').exists():
    return
  config = small_configs.FOLDER / f'{name}_small.py'
  command = [sys.executable, '-m', 'contrastive_jax.main']
  command += [f'--workdir={workdir}', f'--config={config}:{source}']
  command += ['--config.evaluation.baselines=False', *overrides]
  subprocess.run(command, check=True)


def results(
  workdir: pathlib.Path, protocols: Sequence[str], *, baselines: bool = False
) -> list[dict[str, Any]]:
  """Returns the results of a run, as `evaluation.run.evaluate` has them.

  Args:
    workdir: of the run.
    protocols: to measure.
    baselines: whether what learned nothing is measured, too.
  """
  return evaluate(workdir, protocols, baselines=baselines)['results']


def add(rows: Rows, label: str, column: str, value: float) -> None:
  """Adds a value to a row, in place."""
  rows.setdefault(label, {}).setdefault(column, []).append(value)


def table(rows: Rows, columns: Sequence[str]) -> str:
  """Returns Markdown: mean and standard deviation of each cell's values.

  Args:
    rows: of `add`.
    columns: in this order.
  """
  lines = [
    '| | ' + ' | '.join(columns) + ' |',
    '|' + '---|' * (len(columns) + 1),
  ]
  for label, found in rows.items():
    cells = [spread(found.get(column, [])) for column in columns]
    lines.append(f'| {label} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def spread(values: Sequence[float]) -> str:
  """Returns '12.3 ± 0.4'; of one value no deviation, of none nothing."""
  if len(values) < 2:
    return f'{values[0]:.1f}' if values else ''
  return f'{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}'
