"""What a sweep found: results.csv, results.md and a plot a score."""

import csv
import fcntl
import io
import pathlib
from collections.abc import Sequence
from typing import Any

from contrastive_jax.evaluation import correctness, intervals
from contrastive_jax.sweeping import differences
from contrastive_jax.sweeping.plan import Point, setting_text
from contrastive_jax.sweeping.progress import (
  NUMBERS,
  read_failure,
  read_summary,
  write_whole,
)
from contrastive_jax.sweeping.scores import SCORES, Setting, spread

_MEASURED = (*NUMBERS[:6], 'verdict', *NUMBERS[6:])
_PLOTTED = ('linear_accuracy', 'knn_accuracy', 'feature_rank')
_NOTE = (
  'Scored on a part of the training split that was held out (data.held_out); '
  'the test split was not read.'
)


def write(points: Sequence[Point], workdir: pathlib.Path) -> None:
  """Writes the table, in two forms, and the plots of what is done so far.

  Args:
    points: of the whole sweep.
    workdir: where to.

  Raises:
    ValueError: a point was scored on the test split.
  """
  # Of an array's tasks the last to write has seen what all others have done.
  with (workdir / 'results.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    _write(points, workdir)


def _write(points: Sequence[Point], workdir: pathlib.Path) -> None:
  # matplotlib is slow to import, and a listing is to be quick.
  from contrastive_jax.sweeping import plots

  rows, settings = [], {}
  for point in points:
    summary = read_summary(point)
    failure = read_failure(point)
    if summary is None and not failure:
      continue
    measured = {key: (summary or {}).get(key) for key in _MEASURED}
    folder = str(point.folder.relative_to(workdir))
    rows.append(
      {
        **point.values,
        'seed': point.seed,
        **measured,
        'folder': folder,
        'failure': failure,
      }
    )
    key = setting_text(point.setting)
    found = settings.setdefault(key, Setting(point.setting, []))
    if summary is not None:
      right = correctness.of_summary(summary)
      found.runs.append({**measured, 'seed': point.seed, 'right': right})
  fields = [*points[0].values, 'seed', *_MEASURED, 'folder', 'failure']
  text = io.StringIO()
  writer = csv.DictWriter(text, fields, lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  write_whole(workdir / 'results.csv', text.getvalue())
  settings = list(settings.values())
  plotted = [
    key for key in _PLOTTED if any(setting.scores(key) for setting in settings)
  ]
  for key in plotted:
    picture = io.BytesIO()
    plots.plot(settings, key).savefig(picture, format='png', dpi=120)
    write_whole(workdir / f'{key}.png', picture.getvalue())
  failed = sum(row['failure'] != '' for row in rows)
  compared = differences.markdown(settings)
  lines = [
    f'{len(rows) - failed} of {len(points)} runs done, {failed} failed.',
    _NOTE,
    *_precision(settings, compared=bool(compared)),
    '',
    markdown(settings),
    '',
    *compared,
  ]
  if behind := points[0].values.keys() - points[0].setting.keys():
    lines += [
      'In results.csv alone, as they are constant or follow from the others: '
      f'{", ".join(sorted(behind))}.',
      '',
    ]
  lines += [f'![{SCORES[key][0]}]({key}.png)\n' for key in plotted]
  write_whole(workdir / 'results.md', '\n'.join(lines))


def _precision(settings: Sequence[Setting], *, compared: bool) -> list[str]:
  """Says how far a score may be off, given how many images it is of."""
  runs = [run for setting in settings for run in setting.runs]
  accuracies = [
    run[key] for run in runs for key in SCORES if key.endswith('accuracy')
  ]
  images = [r['test_images'] for r in runs if r['test_images']]
  least = min(images, default=0)
  half = 100 * intervals.widest(accuracies, least)
  if not half:
    return []
  return [
    f'Each accuracy is of {least:,} images, the same for all: with so few '
    f'it may be off by up to ± {half:.1f} points (95 %), on top of the ± over '
    'seeds in the table.'
    + (' How sure a difference is stands below.' if compared else '')
  ]


def sentence(summary: dict[str, Any]) -> str:
  """Returns 'linear 96.1 %, kNN 93.2 %', or what there is without labels."""
  if summary.get('linear_accuracy') is not None:
    return (
      f'linear {summary["linear_accuracy"]:.1%}, '
      f'kNN {summary["knn_accuracy"]:.1%}'
    ).replace('%', ' %')
  parts = [f'loss {summary["loss"]:.3f}', str(summary.get('verdict'))]
  if summary.get('feature_rank') is not None:
    parts.insert(0, f'effective rank {summary["feature_rank"]:.1f}')
  return ', '.join(parts)


def markdown(settings: Sequence[Setting]) -> str:
  """Returns a line a setting: mean ± standard deviation over the seeds.

  Args:
    settings: with the runs that are done; of one run there is no deviation.
  """
  fields = list(settings[0].setting) if settings else []
  keys = [key for key in SCORES if any(s.scores(key) for s in settings)]
  head = [*fields, *(SCORES[key][0] for key in keys), 'verdict', 'runs']
  lines = [f'| {" | ".join(head)} |', '|' + '---|' * len(head)]
  for setting in settings:
    verdicts = sorted({str(run['verdict']) for run in setting.runs})
    cells = [
      *(str(value) for value in setting.setting.values()),
      *(_cell(setting, key) for key in keys),
      ', '.join(verdicts),
      str(len(setting.runs)),
    ]
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def _cell(setting: Setting, key: str) -> str:
  """The mean, and of how many if not of all: a collapsed run has no score."""
  scores = setting.scores(key)
  text = spread(scores, SCORES[key][2])
  if scores and len(scores) < len(setting.runs):
    text += f' ({len(scores)} of {len(setting.runs)} runs)'
  return text
