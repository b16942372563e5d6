"""WordNet 3.0 as a table of sentences: Debian's package wordnet-base.

  apt-get install wordnet-base
  python -m experiments.data.wordnet --output=wordnet.csv [--every=20]

A row is a synset: `text` its gloss without examples, `pair` its first example
sentence if there is one, `label` its lexicographer file (45 of them), `split`
test for every tenth synset of a file; `--every=20` is a twentieth of all, of
each file. (Princeton University, WordNet 3.0, whose
license is in the files.)
"""

import argparse
import collections
import csv
import pathlib
import re
import sys
from collections.abc import Iterator

FOLDER = pathlib.Path('/usr/share/wordnet')
# Of lexnames(5WN), by number.
FILES = (
  'adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact '
  'noun.attribute noun.body noun.cognition noun.communication noun.event '
  'noun.feeling noun.food noun.group noun.location noun.motive noun.object '
  'noun.person noun.phenomenon noun.plant noun.possession noun.process '
  'noun.quantity noun.relation noun.shape noun.state noun.substance noun.time '
  'verb.body verb.change verb.cognition verb.communication verb.competition '
  'verb.consumption verb.contact verb.creation verb.emotion verb.motion '
  'verb.perception verb.possession verb.social verb.stative verb.weather '
  'adj.ppl'
).split()
_EXAMPLE = re.compile(r'"([^"]+)"')


def synsets(folder: pathlib.Path = FOLDER) -> Iterator[tuple[str, str, str]]:
  """Yields (gloss, first example or '', lexicographer file) of each synset."""
  for part in ('noun', 'verb', 'adj', 'adv'):
    for line in (folder / f'data.{part}').read_text('utf-8').splitlines():
      if line.startswith(' '):  # the license
        continue
      fields, _, gloss = line.partition(' | ')
      examples = _EXAMPLE.findall(gloss)
      # What follows the first example is of it: a second one, or its author.
      text = gloss.partition('"')[0].strip(' ;:,')
      if text:
        example = examples[0].strip() if examples else ''
        yield text, example, FILES[int(fields.split()[1])]


def main(argv: list[str]) -> None:
  """Writes the table."""
  parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
  parser.add_argument('--output', default='wordnet.csv', metavar='FILE')
  parser.add_argument('--folder', type=pathlib.Path, default=FOLDER)
  parser.add_argument('--every', type=int, default=1, metavar='N')
  options = parser.parse_args(argv[1:])
  if options.every < 1:
    sys.exit(f'error: --every={options.every} is below 1')
  met: collections.Counter[str] = collections.Counter()
  seen, pairs = collections.Counter(), 0
  with open(options.output, 'w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['text', 'pair', 'label', 'split'])
    for text, example, name in synsets(options.folder):
      met[name] += 1
      if (met[name] - 1) % options.every:
        continue
      split = 'train' if seen[name] % 10 else 'test'
      writer.writerow([text, example, name, split])
      seen[name] += 1
      pairs += bool(example)
  print(
    f'{options.output}: {seen.total():,} glosses of {len(seen)} lexicographer '
    f'files, {pairs:,} with an example'
  )


if __name__ == '__main__':
  main(sys.argv)
