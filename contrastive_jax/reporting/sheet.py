"""Images and their augmented views on one sheet."""

import itertools
import textwrap
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.reporting import page
from contrastive_jax.training import build

# Images that the notes rest on; the sheet shows the first of them.
MEASURED = 64
# A view is nearly constant if the standard deviation of its pixels is below
# this share of their range, in every channel. Two views are nearly the same if
# their mean absolute difference is.
_NOTHING = 0.02
# The share of the images from which on it is said.
_MANY = 0.1


class Sheet(NamedTuple):
  """Up to 64 images and their views.

  `images` are [height, width, channels] of any size, uint8 or float32 in [0,
  1], `views` float32 [n, side, side, channels] in [0, 1], before mean and
  deviation of the config are applied; a view of texts is a list of them, and so
  are the `images` where all views are. `titles` are one a view, and `caption`
  says how they were made.
  """

  images: list[Any]
  views: tuple[Any, ...]
  titles: tuple[str, ...]
  caption: tuple[str, ...]


def sheet(job: build.Job) -> Sheet:
  """Returns the first images of a run's epoch 0, and their views.

  Args:
    job: the parts; nothing is trained, and labels are not looked at.

  Returns:
    The views that the training step makes of these images in epoch 0.
  """
  train = job.source.train
  config = job.config.copy_and_resolve_references()
  config.batch_size = min(MEASURED, train.size)
  batches = build.train_batches(job._replace(config=config), 0)
  batch = next(batches)
  batches.close()
  return Sheet(
    [job.modality.preview.example(train.reader, i) for i in batch['id']],
    jax.device_get(job.modality.preview.views(batch)),
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
  # What sentences have in common is not to be seen so.
  seen = {
    title: images
    for title, images in zip(views.titles, views.views, strict=True)
    if not isinstance(images[0], str)
  }
  if not seen:
    return []
  plain = sum(_is_flat(_float(image)) for image in views.images)
  for title, images in seen.items():
    flat = sum(map(_is_flat, images))
    if flat > _MANY * count:
      found.append(
        f'{flat} of {count} images are nearly constant in {title} (standard '
        f'deviation of the pixels below {limit} of their range; of the images '
        f'as they are, {plain}): is the crop too small, or the jitter too '
        'strong?'
      )
  for a, b in itertools.combinations(seen, 2):
    if 'local' in a + b:
      continue
    distance = np.abs(seen[a] - seen[b]).mean(axis=(1, 2, 3))
    same = int(np.sum(distance < _NOTHING))
    if same > _MANY * count:
      found.append(
        f'{a} and {b} of {same} of {count} images are nearly the same (mean '
        f'difference below {limit} of the range): there is little to learn '
        'from such a pair'
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
  if isinstance(views.images[0], str):
    return _draw_texts(views, count)
  shown = [[_float(image) for image in views.images[:count]], *views.views]
  sides = [2.6 if isinstance(view[0], str) else 1.15 for view in shown]
  # The caption's lines need some width, however few views there are.
  width = max(sum(sides), 6.6)
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
    len(shown),
    width_ratios=sides,
    left=(1 - sum(sides) / width) / 2 + 0.01,
    right=(1 + sum(sides) / width) / 2 - 0.01,
    top=1 - 0.35 / height,
    bottom=below / height,
    wspace=0.06,
    hspace=0.06,
  )
  for row in range(count):
    for column, cells in enumerate(shown):
      axes = figure.add_subplot(grid[row, column])
      axes.set_axis_off()
      if isinstance(cell := cells[row], str):
        axes.text(
          0,
          0.5,
          _short(cell),
          va='center',
          fontsize=6.5,
          parse_math=False,  # a dollar is one
        )
      else:
        axes.imshow(page.shown(cell), cmap='gray', vmin=0, vmax=1)
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


def _draw_texts(views: Sheet, count: int) -> Figure:
  titles = 'as it is', *views.titles
  columns = [views.images[:count], *(view[:count] for view in views.views)]
  width, wide, lines = 3.6, 44, 0
  figure = Figure()
  for row in zip(*columns, strict=True):
    texts = [textwrap.wrap(text, wide) for text in row]
    for column, text in enumerate(texts):
      figure.text(column, lines, '\n'.join(text), parse_math=False)
    lines += 1 + max(map(len, texts))
  size = width * len(columns), 0.6 + 0.19 * lines
  figure.set_size_inches(*size)
  for text in figure.texts:
    column, line = text.get_position()
    x, y = 0.1 + width * column, size[1] - 0.5 - 0.19 * line
    text.set(x=x / size[0], y=y / size[1], va='top', fontsize=9)
  for column, title in enumerate(titles):
    x = (0.1 + width * column) / size[0]
    figure.text(x, 1 - 0.1 / size[1], title, va='top', weight='bold')
  figure.text(0.1 / size[0], 0.05, '\n'.join(views.caption), fontsize=7.5)
  return figure


def _short(text: str) -> str:
  """Returns the first lines of a text, for a cell of images."""
  return '\n'.join(textwrap.wrap(text, 46, max_lines=8, placeholder=' ...'))


def _float(image: np.ndarray) -> np.ndarray:
  return image / 255 if image.dtype == np.uint8 else image


def _is_flat(image: np.ndarray) -> bool:
  return bool(image.std(axis=(0, 1)).max() < _NOTHING)


def _percent(chances: Any) -> str:
  """Returns '50 %', or '100 % and 10 %' of two views that differ."""
  unique = dict.fromkeys(np.atleast_1d(chances).tolist())
  return ' and '.join(f'{100 * chance:g} %' for chance in unique)
