"""What a run came to, in words and numbers."""

import math
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from contrastive_jax.config import flat
from contrastive_jax.evaluation import intervals
from contrastive_jax.reporting import folder
from contrastive_jax.reporting.folder import Run

_SIGNS = {'ok': '✓', 'collapsed': '✗', 'not finite': '✗'}
# Of the table that compares runs: title, key, and whether more is better and
# means the same for any objective.
COLUMNS = (
  ('objective', 'objective', False),
  ('steps', 'steps', False),
  ('loss', 'loss', False),
  ('chance', 'chance_loss', False),
  ('verdict', 'verdict', False),
  ('kNN, %', 'knn_accuracy', True),
  ('linear, %', 'linear_accuracy', True),
  ('few labels, %', 'few_label_accuracy', True),
  ('effective rank', 'feature_rank', False),
  ('images/s', 'images_per_second', True),
)


def verdict(run: Run) -> str:
  """Returns the verdict with a sign, for not everyone sees colors."""
  found = folder.latest(run, 'verdict')
  if found is None:
    return '– not known yet'
  return f'{_SIGNS.get(found, "!")} {found}'


def summary(run: Run, causes: dict[str, str]) -> list[str]:
  """Returns what was trained, on what, and what came of it.

  Args:
    run: whole or not.
    causes: the objective's, by verdict.

  Returns:
    Paragraphs of plain text.
  """
  paragraphs = []
  fields = flat(run.config)
  if fields:
    paragraphs.append(_trained(run, fields))
  if run.reports or run.summary:
    paragraphs.append(_came_of_it(run, causes))
  if sentence := _accuracy(run):
    paragraphs.append(sentence)
  return paragraphs


def tiles(run: Run) -> list[tuple[str, str, str]]:
  """Returns the few numbers that matter: title, value and a remark."""
  loss, chance = (folder.latest(run, k) for k in ('loss', 'chance_loss'))
  found = [('verdict', verdict(run), '')]
  if loss is not None:
    found.append(('loss', number(loss), f'chance {number(chance)}'))
  for title, metric in (('linear probe', 'linear'), ('kNN', 'knn')):
    values = accuracies(run, metric)
    if 'trained encoder' in values:
      others = (
        f'{row.split()[0]} {percent(value)}'
        for row, value in values.items()
        if row != 'trained encoder'
      )
      found.append(
        (title, f'{percent(values["trained encoder"])} %', ', '.join(others))
      )
  if (rank := folder.latest(run, 'feature_rank')) is not None:
    found.append(('effective rank', f'{rank:.1f}', 'of the features'))
  return found


def accuracies(run: Run, metric: str) -> dict[str, float]:
  """Returns an accuracy of each row of summary.json that has it.

  Args:
    run: with a summary or without.
    metric: 'linear', or 'knn' for whichever k there is.

  Returns:
    Accuracy in [0, 1] by row, such as 'trained encoder'.
  """
  found = {}
  for row, metrics in _rows(run).items():
    for name, value in metrics.items():
      fits = name.startswith('knn') if metric == 'knn' else name == metric
      if fits and value is not None:
        found[row] = value
  return found


def table(run: Run) -> tuple[list[str], list[list[str]]]:
  """Returns header and rows of summary.json's comparison; none without it.

  Args:
    run: with a summary or without.

  Returns:
    Accuracies with their 95 % intervals over the test images.
  """
  rows = _rows(run)
  names = list(dict.fromkeys(n for metrics in rows.values() for n in metrics))
  images = run.summary.get('test_images')

  def accuracy(value: float | None) -> str:
    if value is None or not images:
      return percent(value)
    return _between(value, *intervals.wilson(round(value * images), images))

  body = [
    [row]
    + [
      number(metrics.get(n))
      if n == 'effective_rank'
      else accuracy(metrics.get(n))
      for n in names
    ]
    for row, metrics in rows.items()
  ]
  return ['encoder', *map(_metric_title, names)], body


def results(run: Run) -> tuple[list[str], list[list[str]]]:
  """Returns header and rows of evaluation.json, with the intervals.

  Args:
    run: with results or without. Of a grid only what was chosen is shown.
  """
  header = 'step', 'protocol', 'encoder', 'setting', 'metric', 'value'
  body = []
  for row in run.results:
    if not row.get('headline', True):
      continue
    show = percent if 'accuracy' in str(row.get('metric')) else number
    unit = ', %' if show is percent else ''
    low, high = row.get('low'), row.get('high')
    interval = '–' if low is None else f'{show(low)} to {show(high)}'
    examples = row.get('examples')
    body.append(
      [
        number(row.get('step')),
        str(row.get('protocol', '–')),
        str(row.get('representation', '–')),
        str(row.get('setting', '–')),
        f'{row.get("metric", "–")}{unit}',
        show(row.get('value')),
        interval,
        str(row.get('data', '–')),
        f'{examples:,}' if isinstance(examples, int) else '–',
        number(row.get('seed')),
      ]
    )
  return [*header, 'interval', 'data', 'examples', 'seed'], body


# Of evaluation.json, beside accuracies, what is compared between runs.
_ALSO = ('recall@', 'spearman')


def headlines(
  runs: Sequence[Run],
) -> dict[tuple[str, ...], dict[int, dict[str, Any]]]:
  """Returns the newest measures of evaluation.json that were chosen.

  Args:
    runs: with results or without.

  Returns:
    By protocol (and metric, of other than accuracies), encoder and data, and by
    the number of the run.
  """
  found: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
  for number_of_run, run in enumerate(runs):
    for row in sorted(run.results, key=lambda row: row.get('step') or 0):
      protocol, metric = (str(row.get(k)) for k in ('protocol', 'metric'))
      compared = metric == 'accuracy' or metric.startswith(_ALSO)
      if (
        compared and row.get('headline', True) and row.get('value') is not None
      ):
        if metric not in ('accuracy', protocol):
          protocol += f', {metric}'
        key = tuple(str(row.get(k, '–')) for k in ('representation', 'data'))
        found.setdefault((protocol, *key), {})[number_of_run] = row
  return found


def measured_together(
  runs: Sequence[Run], *, spread: bool
) -> tuple[list[str], list[list[str]]]:
  """Returns header and rows of what evaluation.json has of several runs.

  Args:
    runs: of each the newest result counts.
    spread: whether mean and standard deviation over them mean something, as
      they do of runs that differ in their seed alone.

  Returns:
    A line for each protocol, encoder and data, a column a run, with the
    intervals; no lines where a single run was evaluated, or none.
  """
  found = headlines(runs)
  if len({run for line in found.values() for run in line}) < 2:
    return [], []

  def cell(row: dict[str, Any] | None) -> str:
    if row is None:
      return '–'
    show = number if row.get('metric') == 'spearman' else percent
    return _between(row['value'], row.get('low'), row.get('high'), show)

  header = ['protocol', 'encoder', 'data', *(run.name for run in runs)]
  rows = [
    [*key, *(cell(line.get(i)) for i in range(len(runs)))]
    for key, line in found.items()
  ]
  if spread:
    header.append('mean ± deviation over runs')
    for row, line in zip(rows, found.values(), strict=True):
      scores = [of_run['value'] for of_run in line.values()]
      show = number if row[0] == 'spearman' else percent
      row.append(
        f'{show(statistics.mean(scores))} ± '
        f'{show(statistics.stdev(scores))} of {len(scores)}'
        if len(scores) > 1
        else '–'
      )
  return header, rows


def comparison(run: Run) -> dict[str, Any]:
  """Returns the values of COLUMNS by key; None where they are not known."""
  fields = flat(run.config)
  values = {
    key: folder.latest(run, key)
    for _, key, _ in COLUMNS
    if key not in ('objective', 'steps', 'verdict')
  }
  return {
    **values,
    'objective': fields.get('objective.name'),
    'data': _scored_on(fields),
    'steps': folder.steps_done(run),
    'verdict': verdict(run),
  }


def number(value: Any) -> str:
  """Returns a number to four places, a whole one as it is, or a dash."""
  if value is None:
    return '–'
  if isinstance(value, bool | str):
    return str(value)
  if not math.isfinite(value):
    return 'not finite'
  if isinstance(value, int) or abs(value) >= 1000:
    return f'{value:,.0f}'
  return f'{value:.4g}'


def percent(value: float | None) -> str:
  """Returns an accuracy in per cent, without the sign."""
  return '–' if value is None else f'{100 * value:.2f}'


def _between(
  value: float,
  low: float | None,
  high: float | None,
  show: Callable[[float | None], str] = percent,
) -> str:
  if low is None or high is None:
    return show(value)
  return f'{show(value)} ({show(low)} to {show(high)})'


def _rows(run: Run) -> dict[str, dict[str, float | None]]:
  return run.summary.get('rows') or {}


def _metric_title(name: str) -> str:
  if found := re.fullmatch(r'knn(\d+)_cos_t(.+)', name):
    return f'kNN (k = {found[1]}, T = {found[2]}), %'
  if found := re.fullmatch(r'linear_(\d+)_labels_a_class', name):
    return f'linear, {found[1]} labels a class, %'
  return {'linear': 'linear, %'}.get(name, name.replace('_', ' '))


def _scored_on(fields: dict[str, Any]) -> str | None:
  """The test split, or a part of train: two accuracies that do not compare."""
  source, share = fields.get('data.source'), fields.get('data.held_out')
  return f'{source}, {share:g} of train held out' if share else source


def _trained(run: Run, fields: dict[str, Any]) -> str:
  shape = fields.get('run.input_shape', ())
  # Of text it is a number of tokens, and what an example is called follows.
  what, size = 'images', ' × '.join(map(str, shape)) + ' pixels'
  if len(shape) == 1:
    what, size = 'sentences', f'at most {shape[0]} tokens'
  encoder = str(fields.get('encoder.name'))
  if encoder.startswith(('resnet', '_tiny')):
    encoder += f' of width {fields.get("encoder.width")}'
  if beside := fields.get('text_encoder.name'):
    encoder += f', and beside it a {beside},'
    what = 'pairs'
  classes = fields.get('run.num_classes')
  batch = fields.get('batch_size')
  done, total = folder.steps_done(run), folder.total_steps(run)
  images = number(fields.get('run.num_examples'))
  steps = f'{done:,}' + ('' if total is None else f' of {total:,}')
  epochs = folder.latest(run, 'epoch')
  return (
    f'{fields.get("objective.name")} trained a {encoder} on '
    f'{fields.get("data.source")}: {images} {what} of {size}, '
    + ('without labels' if classes is None else f'{classes} classes')
    + f'. It has done {steps} steps of {batch} {what}'
    + ('' if epochs is None else f', {epochs:.1f} epochs')
    + f', with seed {fields.get("seed")}.'
  )


def _came_of_it(run: Run, causes: dict[str, str]) -> str:
  loss, chance = (folder.latest(run, k) for k in ('loss', 'chance_loss'))
  found = folder.latest(run, 'verdict')
  sentence = (
    f'The loss is {number(loss)}; an encoder that knows nothing has '
    f'{number(chance)}. '
  )
  if found == 'ok':
    return sentence + 'The embedding is spread out: no sign of a collapse.'
  sentence += f'The verdict is “{found or "not known yet"}”.'
  return sentence + (
    f' Likely causes: {causes[found]}' if found in causes else ''
  )


def _accuracy(run: Run) -> str:
  values = accuracies(run, 'linear')
  trained = values.pop('trained encoder', None)
  if trained is None:
    return ''
  held_out = flat(run.config).get('data.held_out')
  images = 'held-out' if held_out else 'test'
  names = {'untrained encoder': 'the untrained encoder'}
  parts = [
    f'{abs(100 * (trained - value)):.1f} points '
    f'{"more" if trained >= value else "less"} than {names.get(row, row)}'
    for row, value in values.items()
  ]
  return (
    f'A linear probe on its frozen features is right for {100 * trained:.1f} % '
    f'of the {images} images' + (f': {", and ".join(parts)}.' if parts else '.')
  )
