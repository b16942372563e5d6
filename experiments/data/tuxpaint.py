"""Tux Paint's stamps with a sentence each, as a table of images and texts.

  apt-get install tuxpaint-stamps-default
  python -m experiments.data.tuxpaint --output=stamps.csv [--language=de]

A row is a stamp: `path` of its PNG, `caption`, `label` its folder. A caption is
English, or that of --language where there is one. (Licenses are in the
package.)
"""

import argparse
import csv
import pathlib
import sys
from collections.abc import Iterator

FOLDER = pathlib.Path('/usr/share/tuxpaint/stamps')


def rows(
  language: str = 'en', folder: pathlib.Path = FOLDER
) -> Iterator[tuple[str, str, str]]:
  """Yields (path, sentence, kind) of each stamp that has one."""
  for path in sorted(folder.rglob('*.png')):
    texts = path.with_suffix('.txt')
    if not texts.is_file():
      continue
    first, *others = texts.read_text('utf-8', 'replace').splitlines() or ['']
    found = {'en': first}
    for line in others:
      name, _, text = line.partition('=')
      found[name.removesuffix('.utf8')] = text
    sentence = found.get(language, '').strip()
    if sentence:
      yield str(path), sentence, path.relative_to(folder).parts[0]


def main(argv: list[str]) -> None:
  """Writes the table."""
  parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
  parser.add_argument('--output', default='stamps.csv', metavar='FILE')
  parser.add_argument('--language', default='en', help='such as de, ja')
  parser.add_argument('--folder', type=pathlib.Path, default=FOLDER)
  options = parser.parse_args(argv[1:])
  found = list(rows(options.language, options.folder))
  with open(options.output, 'w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['path', 'caption', 'label'])
    writer.writerows(found)
  print(f'{options.output}: {len(found):,} stamps with a sentence')


if __name__ == '__main__':
  main(sys.argv)
