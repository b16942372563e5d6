"""How far runs are apart on the same test images, each less the best one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contrastive_jax.evaluation import correctness
from contrastive_jax.reporting import folder, page, summaries
from contrastive_jax.reporting.folder import Run

_NOTE = (
  'Each less the best (★), in points, with 95 % intervals over the test '
  'images, which are the same for both: what both have right or wrong does not '
  'count. An interval that reaches 0 does not tell the two apart. Another seed '
  'of the training is not in it, nor that the best was picked; subsets of few '
  'labels are, where there are several.'
)
_WHY = (
  'tested on different images, or by a version that did not store which of '
  'them are right'
)


class _Line(NamedTuple):
  """One accuracy of all runs, less the best."""

  cells: list[str]
  best: int
  left_out: list[int]  # runs that have it, but not on the images of the best
  compares: bool


def section(runs: Sequence[Run]) -> tuple[list[str], bool]:
  """Returns tables of summary.json's and evaluation.json's differences.

  Args:
    runs: at least two.

  Returns:
    HTML, and whether any difference is in it. A column an accuracy of
    summary.json; a line for each protocol, encoder and data of evaluation.json.
    What cannot be compared is a sentence; no HTML where fewer than two runs
    have an accuracy.
  """
  columns, rows = _at_the_end(runs), _by_protocol(runs)
  lines = [*columns.values(), *rows.values()]
  if not lines:
    return [], False
  body = [page.element('h3', 'Differences on the same test images')]
  if shown := {k: line for k, line in columns.items() if line.compares}:
    cells = zip(*(line.cells for line in shown.values()), strict=True)
    body.append(
      page.table(
        ['run', *shown],
        [[run.name, *mine] for run, mine in zip(runs, cells, strict=True)],
        best=[(x.best, i) for i, x in enumerate(shown.values(), 1)],
        name='differences',
      )
    )
  if shown := {k: line for k, line in rows.items() if line.compares}:
    body.append(
      page.table(
        ['protocol', 'encoder', 'data', *(run.name for run in runs)],
        [[*key, *line.cells] for key, line in shown.items()],
        best=[(i, 3 + line.best) for i, line in enumerate(shown.values())],
      )
    )
  compared = len(body) > 1
  sentences = [_NOTE] if compared else []
  if left_out := sorted({i for line in lines for i in line.left_out}):
    names = ', '.join(runs[i].name for i in left_out)
    sentences.append(
      f'Not all accuracies of {names} are compared: it was {_WHY}.'
      if compared
      else f'No accuracies are compared: the runs were {_WHY}.'
    )
  body += [page.element('p', text, kind='quiet') for text in sentences]
  return body, compared


def _at_the_end(runs: Sequence[Run]) -> dict[str, _Line]:
  """Of summary.json, by title."""
  stored = [correctness.of_summary(run.summary) for run in runs]
  found = {}
  for title, key, _ in summaries.COLUMNS:
    measured = [folder.latest(run, key) is not None for run in runs]
    if key.endswith('accuracy') and sum(measured) > 1:
      of_runs = [{0: has[key]} if key in has else {} for has in stored]
      found[title.replace('%', 'points')] = _line(of_runs, measured)
  return found


def _by_protocol(runs: Sequence[Run]) -> dict[tuple[str, ...], _Line]:
  """Of evaluation.json, by protocol, encoder and data."""
  found = {}
  for key, line in summaries.headlines(runs).items():
    # A rank correlation is one number of all pairs.
    if len(line) > 1 and key[0] != 'spearman':
      of_runs = [
        correctness.of_result(line[i], run.results) if i in line else {}
        for i, run in enumerate(runs)
      ]
      found[key] = _line(of_runs, [i in line for i in range(len(runs))])
  return found


def _line(
  of_runs: Sequence[Mapping[int, correctness.Right]], measured: Sequence[bool]
) -> _Line:
  found = correctness.less_best(of_runs)
  cells = []
  for i, difference in enumerate(found.differences):
    if difference is None:
      cells.append('best' if i == found.best else '–')
    else:
      cells.append(
        '{:+.2f} ({:+.2f} to {:+.2f})'.format(*(100 * x for x in difference))
      )
  left_out = [
    i
    for i, difference in enumerate(found.differences)
    if measured[i] and difference is None and i != found.best
  ]
  best = -1 if found.best is None else found.best
  return _Line(cells, best, left_out, any(found.differences))
