"""Which class are images of, by a run's labels, and are they like its data?

  python -m contrastive_jax.predict --workdir=runs/digits \
      --images=folder:/path/to/images --output=classes.csv

The classifier is `--head=linear`, the linear probe on the frozen encoder, or
`--head=finetune_100`, the encoder trained on with so many per cent of the
labels. It is fitted on the run's own labels at its first use, kept in
WORKDIR/classifiers with the names of the classes, and used from there.

A row of the file is an image, in the order of the ids, train before test:

  path         or the split and the id, where there are no files; of a run of
               text it is `text`
  class        the most probable one
  probability  of that class: the softmax of the classifier
  distance     1 less the cosine with the nearest labeled training image
  percentile   of that distance among the distances of training images from
               their own nearest other one: of 100 of them so many have theirs
               nearer. Above 99 the image is unlike all that was trained on,
               and its probability says little.

Of images some of which have labels, those without are predicted; so it is with
the run's own data, which it takes without `--images`. What cannot be read is
named and left out. A command that was killed goes on where it stood.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from contrastive_jax.commands import command_line, compiled


def main(argv: Sequence[str]) -> None:
  """Predicts, and prints what was written."""
  parser = argparse.ArgumentParser(
    prog='python -m contrastive_jax.predict',
    description="Writes the class of each image, by a run's classifier.",
  )
  parser.add_argument('--workdir', required=True, help='of the run')
  parser.add_argument(
    '--images', help="a data source; default: the run's own, without a label"
  )
  parser.add_argument('--output', required=True, help='a .csv file')
  parser.add_argument(
    '--head', default='linear', help='linear or finetune_PERCENT'
  )
  parser.add_argument('--step', type=int, help='default: the newest')
  options = parser.parse_args(argv[1:])
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  compiled.keep()
  # Only now: the import takes seconds, and --help is not to wait for it.
  from contrastive_jax.evaluation import embed, predict, tables

  with command_line.errors_in_a_sentence():
    output = tables.check(options.output, ('.csv',))
    found = predict.predict(
      options.workdir,
      output,
      images=options.images,
      head=options.head,
      step=options.step,
    )
  for line in embed.left_out(found.unreadable):
    print(line)
  if found.right is not None:
    print(
      f'of the {found.known:,} that have a label of these classes, '
      f'{found.right:,} got it (those that it was fitted on included)'
    )
  if found.far:
    print(
      f'{found.far:,} are farther from the training data than 99 % of it are '
      'from each other'
    )
  print(f'{found.images:,} images: {output}')


if __name__ == '__main__':
  main(sys.argv)
