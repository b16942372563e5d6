"""ViT-Ti/4 beside ResNet-18: the same images, and about the same time a step.

  python -m experiments.encoder_study --workdir=runs/encoders \
      --source=idx:/usr/share/datasets/fashion-mnist
  python -m experiments.data.openclipart --side=64 --output=openclipart.csv
  python -m experiments.encoder_study --workdir=runs/encoders_clipart \
      --source=csv:openclipart.csv

SimCLR (`--seeds` of them) and the others (one), each by the small config of its
family of encoders; batch, images, size and crops are the same for all. VICRegL
needs a map, and what masks patches needs a ViT.
The ViT has four blocks, and the ResNet the width with which a step takes as
long; what a step took stands in the table. Neighbors and the linear probe are
of the test split; untrained encoders stand beside. Runs that are finished are
kept.
"""

import argparse
import json
import pathlib
import statistics
import sys
from typing import Any

from experiments import studies

BATCH_SIZE = 128
# Of an objective: its config with a ResNet, and with a ViT.
OBJECTIVES = {
  'simclr': {'resnet': 'simclr', 'vit': 'simclr'},
  'vicreg': {'resnet': 'vicreg', 'vit': 'vicreg'},
  'moco_v3': {'resnet': 'moco_v3', 'vit': 'moco_v3_vit'},
  'dino': {'resnet': 'dino', 'vit': 'dino_vit'},
  'lejepa': {'resnet': 'lejepa', 'vit': 'lejepa'},
  'visreg': {'resnet': 'visreg', 'vit': 'visreg'},
  'vicregl': {'resnet': 'vicregl'},
  'mae': {'vit': 'mae'},
  'dinov2': {'vit': 'dinov2'},
}
_RESNET = {
  'optimizer.name': 'adamw',
  'optimizer.base_learning_rate': 0.002,
  'optimizer.weight_decay': 1e-4,
  'optimizer.schedule': 'cosine',
}
# Of those that have no config with a ViT: MoCo v3's optimizer.
_VIT = {
  'optimizer.name': 'adamw',
  'optimizer.base_learning_rate': 1e-3,
  'optimizer.weight_decay': 0.1,
  'encoder.name': 'vit_tiny',
  'encoder.positions': 'sincos',
  'encoder.vit_init': 'xavier',
}
# What was made for hundreds of epochs, in a few; and VICRegL's matches, of the
# 4 places that a ResNet's map of 16 pixels has.
_SHORT = {
  'moco_v3_vit': {'optimizer.base_learning_rate': 1e-3},
  'dino': {'optimizer.frozen_epochs': 0.25},
  'dino_vit': {
    'optimizer.frozen_epochs': 0.25,
    'optimizer.base_learning_rate': 1e-3,
  },
  'vicregl': {'objective.matches': 2, 'objective.matches_back': 1},
  'mae': studies.FEW_STEPS['mae'],
  # Frozen for half of the run, as on digits.
  'dinov2': studies.FEW_STEPS['dinov2'] | {'optimizer.frozen_epochs': 0.3},
}
_COLUMNS = ('kNN, %', 'linear, %', 'linear, 10 labels, %', 'seconds a step')


def fields(
  objective: str, family: str, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
  """Returns what a run changes in its config.

  Args:
    objective: of `OBJECTIVES`.
    family: 'resnet' or 'vit'.
    seed: of the run.
    options: of the command.
  """
  config = OBJECTIVES[objective][family]
  own: dict[str, Any] = {'encoder.width': options.width} | _RESNET
  if family == 'vit':
    has_own = OBJECTIVES[objective].get('resnet') != config
    own = {'encoder.depth': 4} | ({} if has_own else _VIT)
  return {
    'seed': seed,
    'batch_size': BATCH_SIZE,
    'steps': options.images // BATCH_SIZE,
    'data.image_size': options.size,
    'data.antialias': True,
    'augment.crop_scale': (0.5, 1.0),
    'optimizer.warmup_epochs': 0.1,
    'log.every_steps': 50,
    'evaluation.baselines': objective == 'simclr' and seed == 0,
    **own,
    **_SHORT.get(config, {}),
  }


def main(argv: list[str]) -> None:
  """Trains, evaluates, and prints the table."""
  parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--source', required=True)
  parser.add_argument('--images', type=int, default=38_400)
  parser.add_argument('--size', type=int, default=16, help='pixels a side')
  parser.add_argument('--width', type=int, default=22, help='of the ResNet')
  parser.add_argument('--seeds', type=int, default=3, help='of SimCLR')
  parser.add_argument('--only', choices=OBJECTIVES, nargs='+')
  options = parser.parse_args(argv[1:])
  rows: studies.Rows = {}
  for objective in options.only or OBJECTIVES:
    for family in OBJECTIVES[objective]:
      for seed in range(options.seeds if objective == 'simclr' else 1):
        folder = options.workdir / f'{objective}_{family}_{seed}'
        changes = fields(objective, family, seed, options)
        studies.train(
          folder,
          OBJECTIVES[objective][family],
          options.source,
          [f'--config.{name}={value}' for name, value in changes.items()],
        )
        _add(rows, f'{objective}, {family}', family, folder)
  print(studies.table(rows, _COLUMNS))


def _add(
  rows: studies.Rows, label: str, family: str, folder: pathlib.Path
) -> None:
  """Adds a run, and what it was compared with, to the rows."""
  summary = json.loads((folder / 'summary.json').read_text())
  for row, found in summary['rows'].items():
    names = {
      'trained encoder': label,
      'untrained encoder': f'untrained {family}',
    }
    name = names.get(row) or str(row)
    # kNN, linear and few labels come in this order.
    for column, value in zip(_COLUMNS, list(found.values())[:3], strict=False):
      if value is not None:
        studies.add(rows, name, column, 100 * value)
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  speeds = [json.loads(line)['images_per_second'] for line in lines]
  seconds = BATCH_SIZE / statistics.median(speeds)
  studies.add(rows, label, _COLUMNS[-1], seconds)


if __name__ == '__main__':
  main(sys.argv)
