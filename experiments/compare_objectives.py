"""Every objective on the same data, encoder and number of images: one table.

  python -m experiments.compare_objectives --workdir=runs/compare \
      --source=idx:/usr/share/datasets/fashion-mnist --images=150000 \
      --set=data.image_size=20 --set=encoder.width=8 \
      '--set=augment.crop_scale=(0.5, 1.0)' --set=optimizer.warmup_epochs=0.25 \
      --set=log.every_steps=50
  python -m experiments.compare_objectives --workdir=runs/compare_digits \
      --source=digits --images=102400 --seeds=3 --set=encoder.width=8 \
      --set=log.every_steps=50

Runs `contrastive_jax.main` once an objective and seed, each in its own folder
WORKDIR/OBJECTIVE_SEED. Loss, heads and augmentation are what that objective's
configs/*_small.py says, and so is whether biases and norms decay; encoder (but
its norm, as MoCo needs groups, and whether the last scale of a block begins at
0), batch, optimizer, schedule and budget are the same for all. What a recipe of
hundreds of epochs fits to its batch or its length is fitted to these
(`FITTED`). A comparison that was killed goes on where it stood. Ends with the
table of all that is done, in Markdown; --table runs nothing and only prints it.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

from absl import app, flags

from experiments import small_configs, studies

BATCH_SIZE = 128
# Ours: of an objective, what does not fit a short run of this batch. The
# configs for digits are fitted already.
FITTED = {
  'moco': {'encoder.norm': 'ghost:16'},  # 8 groups, as in its notebook
  # The recipe's 65,536 would be random for the first 512 steps.
  'nnclr': {'objective.queue_size': 4096},
  # An epoch of 1,000 is not one of 2.5.
  'swav': {'optimizer.frozen_epochs': 0.25},
  'dino': {'optimizer.frozen_epochs': 0.25},
  # Four blocks, as on digits.
  'mae': studies.FEW_STEPS['mae'] | {'encoder.depth': 4},
  'dinov2': studies.FEW_STEPS['dinov2']
  | {'encoder.depth': 4, 'optimizer.frozen_epochs': 1.25},
}

# Of all but those that mask patches, which have a ViT of their own (as of their
# config) and its optimizer.
_COMMON = {
  'encoder.name': 'resnet18',
  'encoder.width': 16,
  'optimizer.name': 'adamw',
  'optimizer.base_learning_rate': 0.002,
  'optimizer.schedule': 'cosine',
  'optimizer.weight_decay': 1e-4,
}

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of all runs.', required=True)
_SOURCE = flags.DEFINE_string('source', 'digits', 'Data source.')
_IMAGES = flags.DEFINE_integer('images', 150_000, 'Seen by each run.')
_SEEDS = flags.DEFINE_integer('seeds', 1, 'Runs of each objective.')
_ONLY = flags.DEFINE_list(
  'only', small_configs.NAMES, 'Objectives, by their config.'
)
_TABLE = flags.DEFINE_bool('table', False, 'Run nothing.')
_SET = flags.DEFINE_multi_string('set', [], 'FIELD=VALUE of every config.')


def run(name: str, seed: int, workdir: pathlib.Path) -> None:
  """Trains and evaluates one objective, or goes on with it.

  Args:
    name: configs/NAME_small.py.
    seed: of the run.
    workdir: of this run; its `log` is what the job prints.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  fields = {
    'seed': seed,
    'batch_size': BATCH_SIZE,
    'steps': _IMAGES.value // BATCH_SIZE,
    # Of one objective a kind: the others' untrained encoder is the same.
    'evaluation.baselines': name == _of_each_kind()[_kind(name)],
    **({} if _needs_vit(name) else _COMMON),
    **_fitted(name),
    **_set(),
  }
  with (workdir / 'log').open('a') as log:
    code = subprocess.call(
      [
        sys.executable,
        '-m',
        'contrastive_jax.main',
        f'--config={small_configs.FOLDER}/{name}_small.py:{_SOURCE.value}',
        f'--workdir={workdir}',
        *(f'--config.{field}={value}' for field, value in fields.items()),
      ],
      stdout=log,
      stderr=log,
    )
  if code:
    print(f'{name}, seed {seed}: exit code {code}, see {workdir}/log')


def table(workdir: pathlib.Path) -> str:
  """Returns the Markdown table of all runs in a folder that have ended.

  Args:
    workdir: of all runs.

  Returns:
    A line an objective, and those of raw pixels and untrained encoders; mean
    and standard deviation over seeds where there are several.
  """
  lines = [
    '| objective | linear, % | kNN, % | linear, 10 labels a class, % '
    '| effective rank | alarms | seeds |',
    '|' + '---|' * 7,
  ]
  baselines: dict[str, list[dict[str, float]]] = {}
  for name in small_configs.NAMES:
    runs = []
    for path in sorted(workdir.glob(f'{name}_[0-9]*/summary.json')):
      summary = json.loads(path.read_text())
      for row in summary['rows'].keys() - {'trained encoder'}:
        label = f'{row}, {_what_differs(name, row)}'
        baselines.setdefault(label, []).append(summary['rows'][row])
      if not summary['rows']:  # it was stopped
        verdict = summary['verdict']
        lines.append(f'| {path.parent.name} | | | | | {verdict} | 1 |')
        continue
      runs.append((summary, _reports(path.with_name('metrics.jsonl'))))
    if runs:
      rows = [summary['rows']['trained encoder'] for summary, _ in runs]
      alarms = sorted({alarm for _, r in runs for alarm in _alarms(r)})
      lines.append(
        f'| {name}{", ViT" * _needs_vit(name)} | {_measured(rows)} | '
        f'{", ".join(alarms) or "none"} | {len(runs)} |'
      )
  for row, measured in sorted(baselines.items()):
    lines.append(f'| {row} | {_measured(measured)} | | {len(measured)} |')
  return '\n'.join(lines)


def _what_differs(name: str, row: str) -> str:
  """What makes a baseline of one objective another's."""
  if row == 'untrained encoder':
    return _kind(name)
  return small_configs.load(name, _SOURCE.value).data.interpolation


def _needs_vit(name: str) -> bool:
  return small_configs.is_vit(small_configs.load(name, _SOURCE.value))


def _kind(name: str) -> str:
  """What makes an untrained encoder another one's."""
  if _needs_vit(name):
    return f'ViT of {name}'
  own = small_configs.load(name, _SOURCE.value).encoder.norm
  fields = {'encoder.norm': own} | _fitted(name) | _set()
  return 'norm ' + fields['encoder.norm']


def _set() -> dict[str, str]:
  return dict(text.split('=', 1) for text in _SET.value)


def _fitted(name: str) -> dict[str, Any]:
  return {} if _SOURCE.value == 'digits' else FITTED.get(name, {})


def _of_each_kind() -> dict[str, str]:
  """Returns an objective for each kind of an encoder."""
  return {_kind(name): name for name in reversed(small_configs.NAMES)}


def _measured(rows: list[dict[str, float]]) -> str:
  """kNN, linear, few labels and rank come in this order in a summary."""
  knn, linear, few, rank = ([row[key] for row in rows] for key in list(rows[0]))
  percent = [[100 * v for v in values] for values in (linear, knn, few)]
  return ' | '.join(map(studies.spread, [*percent, rank]))


def _reports(path: pathlib.Path) -> list[dict[str, Any]]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def _alarms(reports: list[dict[str, Any]]) -> set[str]:
  return {r['verdict'] for r in reports} - {'ok', 'too early'}


def main(argv: list[str]) -> None:
  """Runs what is not done yet, and prints the table."""
  del argv
  workdir = pathlib.Path(_WORKDIR.value)
  if not _TABLE.value:
    for seed in range(_SEEDS.value):
      for name in _ONLY.value:
        folder = workdir / f'{name}_{seed}'
        if not (folder / 'summary.json').exists():
          run(name, seed, folder)
  print(table(workdir))


if __name__ == '__main__':
  app.run(main)
