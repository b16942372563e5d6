"""Clip art with what its authors wrote of it, as a table of images and texts.

  apt-get install openclipart-png openclipart-svg
  python -m experiments.data.openclipart --output=openclipart.csv

A row is a picture: `path` of its PNG, `caption` of the title, the description
and the keywords in the metadata of its SVG, `label` the folder that it is in,
`split` test for every tenth title: what is there twice is on one side. Links to
a picture's file, and pictures of which the metadata say nothing, are left out.
(Public domain.)

`--side=64` has the table point to copies of at most so many pixels a side,
beside it: a run of small images would spend half of its time on large ones.
"""

import argparse
import csv
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import PIL.Image

FOLDER = pathlib.Path('/usr/share/openclipart')
_DC = '{http://purl.org/dc/elements/1.1/}'
_RDF = '{http://www.w3.org/1999/02/22-rdf-syntax-ns#}'
_CC = ('{http://web.resource.org/cc/}', '{http://creativecommons.org/ns#}')
# Of collections and programs, not of a picture.
_NOTHING = {'', 'unsorted', 'untitled', 'unknown', 'svg', 'clip art', 'clipart'}
_LONGEST = 200  # characters
# The largest picture of the package has 231 million pixels.
PIL.Image.MAX_IMAGE_PIXELS = None


def caption_of(path: pathlib.Path) -> str:
  """Returns what the metadata of an SVG say of it; '' if that is nothing."""
  try:
    root = ElementTree.parse(path).getroot()
  except (ElementTree.ParseError, OSError):
    return ''
  works = [w for cc in _CC for w in root.iter(f'{cc}Work')]
  parts: list[str] = []
  for work in works[:1]:
    for name in ('title', 'description'):
      found = work.find(f'{_DC}{name}')
      parts.append(_plain(found.text if found is not None else ''))
    words = [_plain(li.text) for li in work.iter(f'{_RDF}li')]
    parts.append(', '.join(w for w in words if w.lower() not in _NOTHING))
  kept: list[str] = []
  for part in parts:
    if part.lower() not in _NOTHING and part not in kept:
      kept.append(part)
  return '. '.join(kept)[:_LONGEST]


def rows(folder: pathlib.Path = FOLDER) -> Iterator[tuple[str, str, str]]:
  """Yields (path of the PNG, caption, folder) of each picture that has one."""
  for path in sorted((folder / 'png').rglob('*.png')):
    if path.is_symlink():
      continue  # to another picture's file, which has a row of its own
    relative = path.relative_to(folder / 'png')
    text = caption_of(folder / 'svg' / relative.with_suffix('.svg'))
    if text:
      yield str(path), text, relative.parts[0]


def smaller(path: str, copy: pathlib.Path, side: int) -> str:
  """Writes a picture of at most `side` pixels a side, and returns its path.

  That of the picture itself where it is damaged: what a run makes of it is the
  run's to say.
  """
  try:
    with PIL.Image.open(path) as picture:
      shown = picture.convert('RGBA')
  except OSError:
    return path
  shown.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
  copy.parent.mkdir(parents=True, exist_ok=True)
  shown.save(copy)
  return str(copy.absolute())


def _plain(text: str | None) -> str:
  return re.sub(r'\s+', ' ', text or '').strip(' .')


def main(argv: list[str]) -> None:
  """Writes the table."""
  parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
  parser.add_argument('--output', default='openclipart.csv', metavar='FILE')
  parser.add_argument('--folder', type=pathlib.Path, default=FOLDER)
  parser.add_argument('--side', type=int, help='pixels; default: as they are')
  options = parser.parse_args(argv[1:])
  found = list(rows(options.folder))
  copies = pathlib.Path(options.output).with_suffix('')
  with open(options.output, 'w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['path', 'caption', 'label', 'split'])
    titles: dict[str, int] = {}
    for path, text, folder in found:
      number = titles.setdefault(text.partition('.')[0].lower(), len(titles))
      split = 'train' if number % 10 else 'test'
      if options.side:
        inside = pathlib.Path(path).relative_to(options.folder / 'png')
        path = smaller(path, copies / inside, options.side)
      writer.writerow([path, text, folder, split])
  print(f'{options.output}: {len(found):,} pictures with a caption')


if __name__ == '__main__':
  main(sys.argv)
