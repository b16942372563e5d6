"""A table of small sentences, so that text can be tried without a download.

  python -m experiments.data.sentences --output=sentences.csv

Made by a grammar: `pair` says the same in other words, `negative` something
else in the same words, `label` is who it is about.
"""

import argparse
import csv
import itertools
import random
import sys

_WHO = {
  'cat': ('cat', 'kitten'),
  'dog': ('dog', 'hound'),
  'horse': ('horse', 'mare'),
  'sailor': ('sailor', 'seaman'),
  'doctor': ('doctor', 'physician'),
}
_HOW = (
  ('little', 'small'),
  ('old', 'aged'),
  ('quick', 'fast'),
  ('sad', 'glum'),
)
_DOES = (
  ('sleeps', 'slumbers'),
  ('walks', 'strolls'),
  ('looks for food', 'searches for something to eat'),
  ('waits', 'stays until someone comes'),
)
_WHERE = (
  ('near the house', 'close to the building'),
  ('on the ship', 'aboard the vessel'),
  ('in the wood', 'among the trees'),
  ('behind the town hall', 'at the back of the council house'),
)


def rows() -> list[tuple[str, str, str, str]]:
  """Returns (text, pair, negative, label), in an order that is always one."""
  every = list(itertools.product(_WHO, _HOW, _DOES, _WHERE))
  rng = random.Random(0)
  rng.shuffle(every)
  found = []
  for who, how, does, where in every:
    others = [x for x in _DOES if x is not does]
    one, same, other = (
      f'The {a} {b} {c} {d}.'
      for a, b, c, d in (
        (how[0], _WHO[who][0], does[0], where[0]),
        (how[1], _WHO[who][1], does[1], where[1]),
        (how[0], _WHO[who][0], rng.choice(others)[0], where[0]),
      )
    )
    found.append((one, same, other, who))
  return found


def main(argv: list[str]) -> None:
  """Writes the table."""
  parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
  parser.add_argument('--output', default='sentences.csv', metavar='FILE')
  options = parser.parse_args(argv[1:])
  with open(options.output, 'w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['text', 'pair', 'negative', 'label'])
    writer.writerows(rows())
  print(f'{options.output}: {len(rows()):,} sentences')


if __name__ == '__main__':
  main(sys.argv)
