"""scikit-learn's digits as files with a sentence each.

  python -m experiments.data.digits --output=digits_with_text

Writes 1,797 PNGs of 8 x 8 pixels and OUTPUT/digits.csv, with the columns
`path`, `caption` and `label`; so that images with text can be tried without a
download.
"""

import argparse
import csv
import pathlib
import sys

import numpy as np
import PIL.Image
import sklearn.datasets

NAMES = 'zero one two three four five six seven eight nine'.split()
SENTENCES = (
  'a {}',
  'the number {}',
  'the digit {}, written by hand',
  'somebody wrote a {}',
  'this is a {}',
  'a small picture of a {}',
)


def write(folder: pathlib.Path, most: int | None = None) -> pathlib.Path:
  """Writes the files, and returns the path of the table.

  Args:
    folder: is made if it is missing.
    most: only the first so many.
  """
  folder.mkdir(parents=True, exist_ok=True)
  digits = sklearn.datasets.load_digits()
  rng = np.random.default_rng(0)
  table = folder / 'digits.csv'
  with open(table, 'w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['path', 'caption', 'label'])
    for i, (image, label) in enumerate(
      zip(digits.images[:most], digits.target[:most], strict=True)
    ):
      path = folder / f'{i:04}.png'
      pixels = np.round(image * 255 / 16).astype(np.uint8)
      PIL.Image.fromarray(pixels).save(path)
      sentence = SENTENCES[rng.integers(len(SENTENCES))]
      name = NAMES[label]
      writer.writerow([path.name, sentence.format(name), name])
  return table


def main(argv: list[str]) -> None:
  """Writes them."""
  parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
  parser.add_argument(
    '--output', type=pathlib.Path, default='digits_with_text', metavar='FOLDER'
  )
  options = parser.parse_args(argv[1:])
  print(f'{write(options.output)}: with a sentence each')


if __name__ == '__main__':
  main(sys.argv)
