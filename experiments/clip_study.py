"""CLIP, SigLIP and LiT on clip art: is a picture found by what it says?

  apt-get install openclipart-png openclipart-svg
  python -m experiments.data.openclipart --side=64 --output=openclipart.csv
  python -m experiments.clip_study --table=openclipart.csv --workdir=runs/clip

The towers begin at random weights; LiT's tower of images is trained first, by
SimCLR on the pictures of the training split alone, and stays as it is then.
Prints recall on the pictures of the test split, with mean and standard
deviation over the seeds, and what chance gives. Runs that are finished are
kept.
"""

import argparse
import collections
import csv
import math
import pathlib
import statistics
import sys

from experiments import studies

_KS = 1, 10
_WIDTH = '--config.encoder.width=16'
_COLUMNS = {
  f'recall@{k}, {side}': f'R@{k}, {side}, %'
  for side in ('text to image', 'image to text')
  for k in _KS
}


def overrides(kind: str, folder: pathlib.Path) -> list[str]:
  """Returns what a kind of run changes in its config.

  Args:
    kind: 'clip', 'siglip', 'lit', or 'simclr', which LiT begins with.
    folder: of the run of SimCLR with the same seed.
  """
  if kind == 'simclr':
    return [
      _WIDTH,
      '--config.optimizer.name=adamw',
      '--config.optimizer.base_learning_rate=0.002',
      '--config.optimizer.warmup_epochs=1.0',
      '--config.optimizer.weight_decay=1e-4',
    ]
  if kind != 'lit':
    return [_WIDTH]
  return [
    _WIDTH,
    '--config.objective.lock_image=True',
    f'--config.encoder.init=run:{folder}',
  ]


def chance(table: str) -> dict[str, float]:
  """Returns what the columns are if the order of the candidates is random.

  Args:
    table: a picture has one caption, a caption perhaps several pictures.
  """
  with open(table, encoding='utf-8', newline='') as file:
    captions = [
      r['caption'] for r in csv.DictReader(file) if r['split'] == 'test'
    ]
  pictures = collections.Counter(captions)
  n = len(captions)
  found = {}
  for k in _KS:
    missed = [math.comb(n - m, k) / math.comb(n, k) for m in pictures.values()]
    found[f'recall@{k}, text to image'] = 1 - statistics.mean(missed)
    found[f'recall@{k}, image to text'] = k / len(pictures)
  return found


def main(argv: list[str]) -> None:
  """Trains, evaluates, and prints the table."""
  parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
  parser.add_argument('--table', default='openclipart.csv')
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--epochs', type=float, default=10)
  parser.add_argument('--set', action='append', default=[])
  options = parser.parse_args(argv[1:])
  rows: studies.Rows = {}
  for seed in range(options.seeds):
    for kind in ('clip', 'siglip', 'simclr', 'lit'):
      folder = options.workdir / f'{kind}_{seed}'
      changes = [
        f'--config.seed={seed}',
        f'--config.epochs={options.epochs:g}',
        '--config.batch_size=128',
        *overrides(kind, options.workdir / f'simclr_{seed}'),
        *(f'--config.{text}' for text in options.set),
      ]
      config = 'clip' if kind == 'lit' else kind
      studies.train(folder, config, f'csv:{options.table}', changes)
      if kind == 'simclr':
        continue
      for result in studies.results(folder, ['retrieval']):
        column = _COLUMNS.get(result['metric'])
        if column and result['headline']:
          studies.add(rows, kind, column, 100 * result['value'])
  for metric, value in chance(options.table).items():
    studies.add(rows, 'chance', _COLUMNS[metric], 100 * value)
  print(studies.table(rows, list(_COLUMNS.values())))


if __name__ == '__main__':
  main(sys.argv)
