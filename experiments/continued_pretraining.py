"""What does an encoder of other images give? Trained on, and from scratch.

  python -m experiments.continued_pretraining --workdir=runs/continued \
      --first=idx:/usr/share/datasets/fashion-mnist \
      --second=folder:/usr/share/openclipart/png --images=38400 --seeds=3

SimCLR on the first source; from there on the second, and on the second from
random weights. Prints a table in Markdown: neighbors and online probe before
the first step and at the end of each run that goes on, and what the run itself
said of them, which goes by the interval of the paired difference.
Runs that have ended are not run again.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

from absl import app, flags

from experiments import small_configs, studies

BATCH_SIZE = 128
RATE = 0.002

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of all runs.', required=True)
_FIRST = flags.DEFINE_string(
  'first', 'idx:/usr/share/datasets/fashion-mnist', 'Pretrained on.'
)
_SECOND = flags.DEFINE_string(
  'second', 'folder:/usr/share/openclipart/png', 'Trained on, and measured.'
)
_IMAGES = flags.DEFINE_integer('images', 38_400, 'Seen by each run.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Of each kind of run.')
_TABLE = flags.DEFINE_bool('table', False, 'Run nothing.')
_SET = flags.DEFINE_multi_string('set', [], 'FIELD=VALUE of every config.')

# Runs that go on, and what is said of them.
KINDS = {
  'continued': 'continued from the first source',
  'scratch': 'from random weights',
}


def run(workdir: pathlib.Path, source: str, seed: int, **fields: Any) -> None:
  """Trains and evaluates SimCLR on a source, unless it has been done.

  Args:
    workdir: of this run; its `log` is what the job prints.
    source: of the data.
    seed: of the run.
    **fields: of the config, with two underscores for a point.
  """
  if (workdir / 'summary.json').exists():
    return
  workdir.mkdir(parents=True, exist_ok=True)
  config: dict[str, Any] = {
    'seed': seed,
    'batch_size': BATCH_SIZE,
    'steps': _IMAGES.value // BATCH_SIZE,
    'data.image_size': 28,
    'data.antialias': True,
    'augment.crop_scale': (0.3, 1.0),
    'encoder.width': 8,
    'optimizer.name': 'adamw',
    'optimizer.base_learning_rate': RATE,
    'optimizer.warmup_epochs': 0.5,
    'optimizer.weight_decay': 1e-4,
    'log.every_steps': 50,
    'evaluation.baselines': False,
  }
  config |= {key.replace('__', '.'): value for key, value in fields.items()}
  config |= dict(text.split('=', 1) for text in _SET.value)
  with (workdir / 'log').open('a') as log:
    code = subprocess.call(
      [
        sys.executable,
        '-m',
        'contrastive_jax.main',
        f'--config={small_configs.FOLDER}/simclr_small.py:{source}',
        f'--workdir={workdir}',
        *(f'--config.{field}={value}' for field, value in config.items()),
      ],
      stdout=log,
      stderr=log,
    )
  if code:
    print(f'{workdir.name}: exit code {code}, see {workdir}/log')


def run_all(workdir: pathlib.Path) -> None:
  """Runs what is not done yet.

  Args:
    workdir: of all runs.
  """
  half = _IMAGES.value / 2 / 8000  # epochs; the end is measured anyway
  for seed in range(_SEEDS.value):
    first = workdir / f'first_{seed}'
    run(first, _FIRST.value, seed)
    start = {
      'encoder__init': f'run:{first}',
      # Of one channel to three, or back, so that gray means what it meant.
      'encoder__init_channels': 'repeat',
      'evaluation__every_epochs': half,
    }
    second = _SECOND.value
    run(workdir / f'continued_{seed}', second, seed, **start)
    run(
      workdir / f'scratch_{seed}',
      second,
      seed,
      evaluation__every_epochs=half,
    )


def table(workdir: pathlib.Path) -> str:
  """Returns the Markdown table of the runs that have ended.

  Args:
    workdir: of all runs.
  """
  lines = [
    '| run | kNN before, % | kNN after, % '
    '| probe before, % | probe after, % | what the runs said |',
    '|' + '---|' * 6,
  ]
  for kind, what in KINDS.items():
    ends = sorted(workdir.glob(f'{kind}_[0-9]*/summary.json'))
    if not ends:
      continue
    reports = [_reports(path.with_name('metrics.jsonl')) for path in ends]
    cells = [
      studies.spread(
        [100 * measured[at][f'online_{score}'] for measured in reports]
      )
      for score in ('knn', 'probe')
      for at in (0, -1)
    ]
    said = ', '.join(m[-1]['since_start_verdict'] for m in reports)
    lines.append(f'| {what} | {" | ".join(cells)} | {said} |')
  return '\n'.join(lines)


def _reports(path: pathlib.Path) -> list[dict[str, Any]]:
  """Those that measured the encoder: the first is of step 0."""
  reports = map(json.loads, path.read_text().splitlines())
  return [report for report in reports if 'online_knn' in report]


def main(argv: list[str]) -> None:
  """Runs what is not done yet, and prints the table."""
  del argv
  workdir = pathlib.Path(_WORKDIR.value)
  if not _TABLE.value:
    run_all(workdir)
  print(table(workdir))


if __name__ == '__main__':
  app.run(main)
