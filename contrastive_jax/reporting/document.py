"""The whole page about a run, or several beside each other."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

from contrastive_jax.config import flat
from contrastive_jax.evaluation import intervals
from contrastive_jax.reporting import (
  curves,
  differences,
  embeddings,
  figures,
  folder,
  page,
  summaries,
)
from contrastive_jax.reporting.embeddings import Embeddings, Found
from contrastive_jax.reporting.folder import Run
from contrastive_jax.reporting.sheet import Sheet, draw, notes
from contrastive_jax.training.sidefiles import atomic_write


def write(
  workdirs: Sequence[str | pathlib.Path],
  output: str | pathlib.Path | None = None,
) -> tuple[pathlib.Path, list[str]]:
  """Writes the report on some runs.

  Args:
    workdirs: of `contrastive_jax.main`; nothing in them is changed, but for
      the report itself.
    output: the file; None: report.html in the first work folder.

  Returns:
    The file, and what is missing from it, a sentence each.

  Raises:
    FileNotFoundError: one of them is no work folder.
  """
  runs = folder.read_all(workdirs)
  found = [embeddings.load(run) for run in runs]
  gaps = [[*run.gaps, *f.gaps] for run, f in zip(runs, found, strict=True)]
  title = ', '.join(run.name for run in runs)
  body = [page.element('h1', title)]
  if len(runs) > 1:
    links = [
      page.element('a', run.name, href=f'#run-{i}')
      for i, run in enumerate(runs)
    ]
    body += [page.group('nav', links), *_comparison(runs)]
    body += curves.curves(runs, found)
  for i, run in enumerate(runs):
    if len(runs) > 1:
      body.append(page.element('h1', run.name, id=f'run-{i}'))
    body += _summary(run, found[i], gaps[i])
    if len(runs) == 1:
      body += curves.curves(runs, found)
    body += _evaluation(run)
    if (seen := found[i].embeddings) is not None:
      body += [*_map(seen), *_neighbors(seen), *_found_by_text(seen)]
    if (sheet := found[i].sheet) is not None:
      body += _views(sheet)
    body += _config(run)
  path = pathlib.Path(output or runs[0].path / 'report.html')
  atomic_write(path, page.document(f'Report: {title}', body))
  several = len(runs) > 1
  return path, [
    f'{run.name}: {gap}' if several else gap
    for run, mine in zip(runs, gaps, strict=True)
    for gap in mine
  ]


def _summary(run: Run, found: Found, gaps: Sequence[str]) -> list[str]:
  body = [page.element('p', str(run.path), kind='quiet')]
  if gaps:
    sentences = [page.element('p', gap) for gap in gaps]
    body.append(page.group('div', sentences, kind='gaps'))
  tiles = [
    page.group(
      'div',
      [
        page.element('span', title),
        page.element('b', value),
        page.element('span', remark),
      ],
      kind='tile',
    )
    for title, value, remark in summaries.tiles(run)
  ]
  body.append(page.group('div', tiles, kind='tiles'))
  return body + [
    page.element('p', sentence)
    for sentence in summaries.summary(run, found.causes)
  ]


def _comparison(runs: Sequence[Run]) -> list[str]:
  """The table of all runs, and the fields in which they differ."""
  values = [summaries.comparison(run) for run in runs]
  sources = {row['data'] for row in values}
  comparable = len(sources) == 1
  columns = summaries.COLUMNS
  if not comparable:
    columns = (('data', 'data', False), *columns)
  best = []
  rows = [[run.name] for run in runs]
  for column, (_, key, more_is_better) in enumerate(columns, 1):
    show = summaries.percent if key.endswith('accuracy') else summaries.number
    for row, mine in zip(rows, values, strict=True):
      row.append(show(mine[key]))
    scores = [-math.inf if v[key] is None else v[key] for v in values]
    if more_is_better and (comparable or show is summaries.number):
      top = max(scores)
      best += [
        (row, column)
        for row, score in enumerate(scores)
        if score == top and math.isfinite(top)
      ]
  header = ['run', *(title for title, _, _ in columns)]
  remark = (
    f'All of them on {sources.pop()}. '
    if comparable
    else 'The runs are on different data: no accuracy is the best. '
  ) + (
    '★ is the best of its column. Losses of different objectives cannot be '
    'compared; the effective rank tells of collapse, and more of it is not '
    'always better.'
  )
  configs = [flat(run.config) for run in runs]
  keys = sorted({key for config in configs for key in config})
  differing = [
    [key, *(str(config.get(key, '–')) for config in configs)]
    for key in keys
    if any(config.get(key) != configs[0].get(key) for config in configs)
  ]
  body = [
    page.element('h2', 'Comparison'),
    page.table(header, rows, best=best, name='comparison'),
    page.element('p', remark, kind='quiet'),
  ]
  apart, compared = differences.section(runs)
  if half := max((_half_width(run) for run in runs), default=0.0):
    body.append(
      page.element(
        'p',
        f'With so few test images an accuracy may be off by up to ± {half:.1f} '
        'points (95 %): '
        + (
          'two that are closer are told apart, or not, by their differences on '
          'the same images, below.'
          if compared
          else 'the best of two that are closer is a guess.'
        ),
        kind='quiet',
      )
    )
  seeds_only = [line[0] for line in differing] == ['seed']
  header, rows = summaries.measured_together(runs, spread=seeds_only)
  if rows:
    body += [
      page.element('h3', 'Protocols, in per cent, with 95 % intervals'),
      page.table(header, rows),
    ]
  body += apart
  if differing:
    body += [
      page.element('h3', 'Where their configs differ'),
      page.table(['field', *(run.name for run in runs)], differing),
    ]
  return body


def _half_width(run: Run) -> float:
  """Half the 95 % interval of its widest accuracy, in points."""
  accuracies = [
    folder.latest(run, key)
    for _, key, _ in summaries.COLUMNS
    if key.endswith('accuracy')
  ]
  return 100 * intervals.widest(accuracies, folder.latest(run, 'test_images'))


def _evaluation(run: Run) -> list[str]:
  body = []
  for title, (header, rows) in (
    ('at the end of the run', summaries.table(run)),
    ('by contrastive_jax.evaluate', summaries.results(run)),
  ):
    if rows:
      body += [
        page.element('p', f'Measured {title}, with 95 % intervals:'),
        page.table(header, rows),
      ]
  if not body:
    body = [page.element('p', 'Nothing was evaluated yet.', kind='quiet')]
  return [page.element('h2', 'Evaluation'), *body]


def _map(seen: Embeddings) -> list[str]:
  pca, tsne = embeddings.maps(seen)
  by = 'no labels' if seen.labels is None else 'colored by class'
  return [
    page.element('h2', 'Map of the embedding'),
    page.figure(
      figures.embedding_map(seen, pca, tsne),
      f'{len(seen.unit):,} {seen.plural} as points in the plane, {by}.',
      f'{len(seen.unit):,} {seen.plural} of {seen.split} ({by}) at step '
      f'{seen.step:,}. Distances between groups in t-SNE mean little.',
      points=True,
    ),
  ]


def _neighbors(seen: Embeddings) -> list[str]:
  def name(row: int) -> str:
    return '' if seen.labels is None else seen.class_names[seen.labels[row]]

  rows = []
  for query, nearest, similarity in zip(
    *embeddings.neighbors(seen), strict=True
  ):
    cells = [_cell(seen.images[query], f'query, {name(query)}'.rstrip(', '))]
    for row, cosine in zip(nearest, similarity, strict=True):
      text, kind = f'{cosine:.2f}', ''
      if seen.labels is not None:
        same = seen.labels[row] == seen.labels[query]
        text += f' · {name(row)} ' + ('✓' if same else '✗')
        kind = 'right' if same else 'wrong'
      cells.append(_cell(seen.images[row], text, kind))
    rows.append(page.group('tr', cells))
  text = (
    'Left one, then those with the most similar features, with the cosine '
    f'similarity, among {len(seen.unit):,} {seen.plural} of {seen.split}.'
  )
  if seen.labels is not None:
    text += ' ✓ is of the same class, ✗ (dashed) of another.'
  return [
    page.element('h2', 'Nearest neighbors'),
    page.element('p', text, kind='quiet'),
    page.group('div', [page.group('table', rows, kind='sheet')], kind='scroll'),
  ]


def _found_by_text(seen: Embeddings) -> list[str]:
  if seen.common is None:
    return []
  rows = []
  for query, nearest, similarity in zip(
    *embeddings.found_by_text(seen), strict=True
  ):
    caption = seen.captions[query]
    cells = [page.group('td', [page.thumbnail(caption, caption)])]
    for row, cosine in zip(nearest, similarity, strict=True):
      own = seen.names[row] == seen.names[query]
      text = f'{cosine:.2f}' + (' ✓' if own else '')
      cells.append(_cell(seen.images[row], text, 'right' if own else ''))
    rows.append(page.group('tr', cells))
  about = (
    'Left a text, then the images that are nearest to it, with the cosine '
    f'similarity, among {len(seen.captions):,} of {seen.split}. ✓ is the image '
    'that the text is of.'
  )
  return [
    page.element('h2', 'Images by their texts'),
    page.element('p', about, kind='quiet'),
    page.group('div', [page.group('table', rows, kind='sheet')], kind='scroll'),
  ]


def _cell(image: Any, text: str, kind: str = '') -> str:
  inner = [page.thumbnail(image, text), page.element('span', text)]
  return page.group('td', inner, kind=kind)


def _views(sheet: Sheet) -> list[str]:
  count = min(8, len(sheet.images))
  return [
    page.element('h2', 'Augmented views'),
    *(page.element('p', f'Note: {note}.') for note in notes(sheet)),
    page.figure(
      draw(sheet, count),
      f'{count} training images and {len(sheet.views)} augmented views of '
      f'each. {"; ".join(sheet.caption)}.',
      'What the training step sees of these images in epoch 0.',
      points=True,
    ),
  ]


def _config(run: Run) -> list[str]:
  if not run.config:
    return []
  rows = [[k, _plain(v)] for k, v in sorted(flat(run.config).items())]
  return [
    page.element('h2', 'Config'),
    page.group(
      'details',
      [
        page.element('summary', f'{len(rows)} fields'),
        page.table(['field', 'value'], rows),
      ],
    ),
  ]


def _plain(value: Any) -> str:
  if isinstance(value, list):
    return ', '.join(map(str, value)) or '–'
  return '–' if value is None else str(value)
