"""What of a sweep stands in its work folder, and what is left to pay."""

import datetime
import json
import os
import pathlib
import socket
import statistics
from collections.abc import Sequence
from typing import Any

from contrastive_jax.config import Config, Error, flat
from contrastive_jax.data import sources
from contrastive_jax.data import split as split_lib
from contrastive_jax.sweeping import Overrides
from contrastive_jax.sweeping.plan import Point, setting_text
from contrastive_jax.training import sidefiles, watchdog

# Config fields that may change when a sweep is continued: they change neither
# what is learned nor how it is measured.
_FREE_FIELDS = ('checkpoint', 'log', 'seed', 'watchdog_minutes')

# What a point and its sweep exit with where a scheduler is to try again.
AGAIN = watchdog.EXIT_CODE

# What is a number in a summary.json, if it is there.
NUMBERS = (
  'linear_accuracy',
  'knn_accuracy',
  'few_label_accuracy',
  'feature_rank',
  'loss',
  'chance_loss',
  'images_per_second',
  'test_images',
)

# Data that is one small file or two, not a folder to go through or a download.
_SMALL_SOURCES = ('digits', 'idx:')


def pin(
  workdir: pathlib.Path, sweep: list[Overrides], base: Config, *, write: bool
) -> None:
  """Makes a work folder one sweep's, or sees that it is this one's.

  Args:
    workdir: of the sweep.
    sweep: its overrides.
    base: the config that they change.
    write: whether a new folder is made.

  Raises:
    ValueError: the folder holds another sweep.
  """
  path = workdir / 'sweep.json'
  config = flat(json.loads(base.to_json()))
  free = {key for key in config if key.split('.')[0] in _FREE_FIELDS}
  now = {
    'config': {key: config[key] for key in config.keys() - free},
    'sweep': json.loads(json.dumps(sweep)),
  }
  if not path.exists():
    if write:
      workdir.mkdir(parents=True, exist_ok=True)
      write_whole(path, json.dumps(now, indent=2) + '\n')
    return
  before = sidefiles.read_object(path)
  if not isinstance(before.get('config'), dict) or not isinstance(
    before.get('sweep'), list
  ):
    raise Error(f'{path} is damaged (it names no sweep): use another --workdir')
  # A field that only one of them has came with another version.
  for key in sorted(now['config'].keys() & before['config'].keys()):
    if before['config'][key] != now['config'][key]:
      raise Error(
        f'{workdir} holds a sweep with {key}={before["config"][key]}, this one '
        f'has {key}={now["config"][key]}: use another --workdir'
      )
  if before['sweep'] != now['sweep']:
    raise Error(
      f'{workdir} holds another sweep, of {len(before["sweep"])} settings '
      f'where this one has {len(now["sweep"])}, not all the same: use another '
      '--workdir'
    )


def read_summary(point: Point) -> dict[str, Any] | None:
  """Returns what a run measured; None if it is not done.

  Raises:
    ValueError: it was scored on the test split.
  """
  path = point.folder / 'summary.json'
  if not path.exists():
    return None
  summary = sidefiles.read_object(path)
  config = flat(sidefiles.read_object(point.folder / 'config.json'))
  held_out = config.get('data.held_out', 0)
  if not isinstance(held_out, int | float) or not held_out > 0:
    raise Error(
      f'{point.folder} was scored on the test split (data.held_out is 0 in its '
      'config.json): a sweep chooses on a part of train, so this score is not '
      'taken'
    )
  # A collapsed run has no scores; whatever else is no number is none.
  for key in set(summary).intersection(NUMBERS):
    if not isinstance(summary[key], int | float | None):
      raise Error(f'{path} is damaged ({key} is {summary[key]!r})')
  if not isinstance(summary.get('loss'), int | float):
    raise Error(f'{path} is damaged (it has no loss)')
  return summary


def read_failure(point: Point) -> str:
  """Returns why the last attempt failed, in a line; '' if it did not."""
  path = point.folder / 'failed.json'
  if not path.exists():
    return ''
  failure = sidefiles.read_object(path)
  return f'exit code {failure.get("exit_code")}: {failure.get("last_line")}'


def read_exit_code(point: Point) -> int | None:
  """Returns what the last attempt ended with; None if it did not fail."""
  path = point.folder / 'failed.json'
  return sidefiles.read_object(path).get('exit_code') if path.exists() else None


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file that is never seen half-written, whoever else writes it."""
  if isinstance(content, str):
    content = content.encode()
  writer = f'{socket.gethostname()}.{os.getpid()}'
  temporary = path.with_name(f'.{path.name}.{writer}.tmp')
  temporary.write_bytes(content)
  temporary.replace(path)


def list_plan(points: Sequence[Point]) -> str:
  """Returns the plan and its cost as lines of text.

  Args:
    points: of the sweep.

  Returns:
    A line a point, and sums. Steps of a run that is given in epochs are known
    for data that is read in a moment, for other data once a run on it has
    begun; the speed is known once one is done.
  """
  summaries = [read_summary(point) for point in points]
  sizes = _training_sizes(points)
  images = [_images(point, sizes) for point in points]
  lines = []
  for point, count, summary in zip(points, images, summaries, strict=True):
    if summary is not None:
      state = 'done'
    else:
      state = 'failed' if read_failure(point) else ''
    if count is None:
      size = f'{point.config.epochs:,} epochs'
    else:
      size = f'{count // point.config.batch_size:,} steps, {count:,} images'
    values = setting_text(point.values)
    lines.append(
      f'{point.number:>4} {state:<6} {values}, seed {point.seed}: {size}'
    )
  done = [summary for summary in summaries if summary is not None]
  speeds = [s['images_per_second'] for s in done if s.get('images_per_second')]
  lines.append(f'{len(points)} points, {len(done)} of them done')
  known = [count for count in images if count is not None]
  if len(known) < len(images):
    epochs = [
      point.config.epochs
      for point, count, summary in zip(points, images, summaries, strict=True)
      if count is None and summary is None
    ]
    lines.append(
      f'{sum(epochs):,} epochs in all; how many images that is, is known once '
      'the first point has begun'
    )
    return '\n'.join(lines)
  left = sum(
    count
    for count, summary in zip(known, summaries, strict=True)
    if summary is None
  )
  lines.append(f'{sum(known):,} images, {left:,} of them left')
  if not left:
    return '\n'.join(lines)
  if speeds:
    speed = statistics.median(speeds)
    duration = datetime.timedelta(seconds=round(left / speed))
    lines.append(
      f'about {duration} at {speed:,.0f} images/s, the median of the points '
      'done; compiling and evaluation come on top'
    )
  else:
    lines.append('the time is known after the first point')
  return '\n'.join(lines)


def _training_sizes(points: Sequence[Point]) -> dict[tuple, int]:
  """Images of the training split, for each of the data where it is known."""
  sizes = {}
  for point in points:
    path = point.folder / 'config.json'
    if path.exists():
      size = flat(sidefiles.read_object(path)).get('run.num_examples')
      if isinstance(size, int):
        sizes[_data(point)] = size
  for point in points:
    source, share = _data(point)
    in_epochs = point.config.steps is None and (source, share) not in sizes
    if in_epochs and source.startswith(_SMALL_SOURCES):
      try:
        found = split_lib.held_out(sources.load(source), share)
      except (OSError, ValueError):
        continue  # that is for the first point to say
      sizes[source, share] = found.train.size
  return sizes


def _data(point: Point) -> tuple:
  return point.config.data.source, point.config.data.held_out


def _images(point: Point, sizes: dict[tuple, int]) -> int | None:
  c = point.config
  if c.steps is not None:
    return c.steps * c.batch_size
  if _data(point) not in sizes:
    return None
  return c.epochs * (sizes[_data(point)] // c.batch_size) * c.batch_size
