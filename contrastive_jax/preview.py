"""The augmented views of a config, before any training.

  python -m contrastive_jax.preview --config=configs/simclr_small.py:digits \
      --images=8 --output=preview.png

A row an image: as it is, then every view of epoch 0, as the training step makes
them of it. What is seen is what is trained on.
"""

import argparse
import dataclasses
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from ml_collections import config_flags

from contrastive_jax.commands import command_line
from contrastive_jax.config import Config, Error
from contrastive_jax.data import readers
from contrastive_jax.training import build, step

# Images that the notes rest on; the sheet shows the first of them.
_MEASURED = 64
# A view is nearly constant if the standard deviation of its pixels is below
# this share of their range, in every channel. Two views are nearly the same if
# their mean absolute difference is.
_NOTHING = 0.02
# The share of the images from which on it is said.
_MANY = 0.1


class Sheet(NamedTuple):
  """Up to 64 images and their views.

  `images` are uint8 [height, width, channels] of any size, `views` float32
  [n, side, side, channels] in [0, 1], before mean and deviation of the config
  are applied, `titles` one a view, and `caption` says how they were made.
  """

  images: list[np.ndarray]
  views: tuple[np.ndarray, ...]
  titles: tuple[str, ...]
  caption: tuple[str, ...]


def main(argv: Sequence[str]) -> None:
  """Draws the sheet and says what is wrong with it."""
  parser = argparse.ArgumentParser(
    prog='python -m contrastive_jax.preview',
    description='Draws augmented views, before any training.',
    allow_abbrev=False,
  )
  parser.add_argument(
    '--config',
    required=True,
    help='FILE or FILE:SOURCE; any field can be overridden, as in '
    '--config.augment.flip=0.5',
  )
  parser.add_argument('--images', type=int, default=8, help='1 to 64')
  parser.add_argument('--output', default='preview.png', help='a PNG file')
  options, overrides = parser.parse_known_args(argv[1:])
  config = _read_config([argv[0], f'--config={options.config}', *overrides])
  try:
    if not 1 <= options.images <= _MEASURED:
      raise Error(
        f'--images is {options.images}: it must be from 1 to {_MEASURED}'
      )
    # One device will do, whatever number the batch would divide by.
    job = build.build(config, step.make_mesh(jax.local_devices()[:1]))
    views = sheet(job)
    draw(views, options.images).savefig(options.output, format='png', dpi=120)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  for note in notes(views):
    print(f'note: {note}')
  shown = min(options.images, len(views.images))
  print(f'{options.output}: {shown} images in {len(views.views)} views each')


def sheet(job: build.Job) -> Sheet:
  """Returns the first images of a run's epoch 0, and their views.

  Args:
    job: the parts; nothing is trained, and labels are not looked at.

  Returns:
    The views that the training step makes of these images in epoch 0. Of a
    data set that can only be read in sequence, those of its first images.
  """
  train = job.source.train
  reader = train.reader
  if isinstance(reader, readers.Stream):
    # No batch of a stream before a buffer of thousands is full. The ids of its
    # first images stay the same, and with them the views.
    reader = reader.head(_MEASURED)
    train = dataclasses.replace(
      train, size=min(_MEASURED, train.size), labels=None, reader=reader
    )
  config = job.config.copy_and_resolve_references()
  config.batch_size = min(_MEASURED, train.size)
  source = job.source._replace(train=train)
  batches = build.train_batches(job._replace(config=config, source=source), 0)
  batch = next(batches)
  batches.close()
  make_views = jax.jit(job.modality.preview.views)
  return Sheet(
    [job.modality.preview.example(reader, i) for i in batch['id']],
    jax.device_get(make_views(batch)),
    job.modality.preview.titles,
    job.modality.preview.caption,
  )


def notes(views: Sheet) -> list[str]:
  """Returns what is suspicious about the views, a sentence each.

  Args:
    views: of `sheet`.

  Returns:
    A sentence for each view that is nearly constant, and for each pair of
    global views that are nearly the same, in over a tenth of the images.
  """
  found, count, limit = [], len(views.images), _percent(_NOTHING)
  plain = sum(_is_flat(image / 255) for image in views.images)
  for title, images in zip(views.titles, views.views, strict=True):
    flat = sum(map(_is_flat, images))
    if flat > _MANY * count:
      found.append(
        f'{flat} of {count} images are nearly constant in {title} (standard '
        f'deviation of the pixels below {limit} of their range; of the images '
        f'as they are, {plain}): is the crop too small, or the jitter too '
        'strong?'
      )
  pairs = [
    (a, b)
    for b in range(len(views.views))
    for a in range(b)
    if 'local' not in views.titles[a] + views.titles[b]
  ]
  for a, b in pairs:
    distance = np.abs(views.views[a] - views.views[b]).mean(axis=(1, 2, 3))
    same = int(np.sum(distance < _NOTHING))
    if same > _MANY * count:
      found.append(
        f'{views.titles[a]} and {views.titles[b]} of {same} of {count} images '
        f'are nearly the same (mean difference below {limit} of the '
        'range): there is little to learn from such a pair'
      )
  return found


def draw(views: Sheet, count: int = 8) -> Figure:
  """Returns the picture: a row an image, a column a view.

  Args:
    views: of `sheet`.
    count: how many rows, if there are as many images.

  Returns:
    A figure; nothing global was touched.
  """
  count = min(count, len(views.images))
  columns = 1 + len(views.views)
  # The caption's lines need some width, however few views there are.
  width = max(1.15 * columns, 6.6)
  caption = [
    part
    for line in views.caption
    for part in textwrap.wrap(line, int(18 * width))
  ]
  below = 0.2 + 0.17 * len(caption)
  height = 1.15 * count + 0.35 + below
  figure = Figure(figsize=(width, height))
  grid = figure.add_gridspec(
    count,
    columns,
    left=(1 - 1.15 * columns / width) / 2 + 0.01,
    right=(1 + 1.15 * columns / width) / 2 - 0.01,
    top=1 - 0.35 / height,
    bottom=below / height,
    wspace=0.06,
    hspace=0.06,
  )
  for row in range(count):
    cells = [views.images[row] / 255, *(view[row] for view in views.views)]
    for column, cell in enumerate(cells):
      axes = figure.add_subplot(grid[row, column])
      axes.set_axis_off()
      gray = cell.shape[-1] == 1
      axes.imshow(cell[..., 0] if gray else cell, cmap='gray', vmin=0, vmax=1)
  for column, title in enumerate(('image', *views.titles)):
    # Not the axes' own: those of an image that is no square begin lower.
    box = grid[0, column].get_position(figure)
    x, y = (box.x0 + box.x1) / 2, box.y1 + 0.07 / height
    figure.text(x, y, title, ha='center', fontsize=9)
  figure.text(
    0.5,
    0.08 / height,
    '\n'.join(caption),
    ha='center',
    va='bottom',
    fontsize=7.5,
    linespacing=1.5,
  )
  return figure


def _read_config(arguments: list[str]) -> Config:
  """Reads --config and its overrides; what is wrong is said in a sentence."""
  # Flags of our own: the process may have others of that name.
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    'config', None, flag_values=values, sys_argv=arguments, lock_config=True
  )
  with command_line.said_in_a_sentence():
    rest = values(arguments)[1:]
    # A file that could not be loaded fails at its first use, not before.
    values.config.get('seed')
  if rest:
    sys.exit(f'error: unexpected argument {rest[0]!r}')
  return values.config


def _is_flat(image: np.ndarray) -> bool:
  return bool(image.std(axis=(0, 1)).max() < _NOTHING)


def _percent(chances: Any) -> str:
  """Returns '50 %', or '100 % and 10 %' of two views that differ."""
  unique = dict.fromkeys(np.atleast_1d(chances).tolist())
  return ' and '.join(f'{100 * chance:g} %' for chance in unique)


if __name__ == '__main__':
  main(sys.argv)
