"""Reads a work folder, whole or not: a running or crashed run has one too."""

import datetime
import json
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from contrastive_jax.config import Error, MissingError, flat

_MOST_REPORTS = 10_000


class Run(NamedTuple):
  """What a work folder holds; empty where it does not.

  `reports` are the lines of metrics.jsonl, `results` those of evaluation.json,
  and `gaps` says, a sentence each, what is missing and why.
  """

  path: pathlib.Path
  name: str
  config: dict[str, Any]
  reports: list[dict[str, Any]]
  summary: dict[str, Any]
  results: list[dict[str, Any]]
  gaps: tuple[str, ...]


def read(workdir: str | pathlib.Path, name: str = '') -> Run:
  """Reads a work folder; changes nothing in it.

  Args:
    workdir: of `contrastive_jax.main`.
    name: what the run is called; default: as the folder.

  Returns:
    What there is, and in `gaps` what there is not.

  Raises:
    FileNotFoundError: it is no work folder.
  """
  path = pathlib.Path(workdir)
  if not path.is_dir():
    raise MissingError(f'there is no work folder {path}')
  if not any((path / f).exists() for f in ('config.json', 'metrics.jsonl')):
    raise MissingError(
      f'{path} is not a work folder: there is no config.json in it'
    )
  gaps: list[str] = []
  config = _object(path / 'config.json', gaps, _check_config)
  if not (path / 'config.json').exists():
    gaps.append('There is no config.json: what was trained is not known.')
  reports = _reports(path / 'metrics.jsonl', gaps)
  summary = _object(path / 'summary.json', gaps, _check_summary)
  results = _object(path / 'evaluation.json', gaps, _check_results)
  results = results.get('results', [])
  run = Run(
    path,
    name or path.resolve().name,
    config,
    reports,
    summary,
    results,
    (),
  )
  older = {row['step'] for row in results if isinstance(row.get('step'), int)}
  if older := sorted(step for step in older if step < steps_done(run)):
    gaps.append(
      f'Some results are of step {", ".join(f"{s:,}" for s in older)}, not of '
      f'the last one, {steps_done(run):,}.'
    )
  if not reports:
    gaps.append(
      'There are no reports yet: the run has not come to its first one, every '
      f'{_flat_value(run, "log.every_steps")} steps.'
    )
  elif not (path / 'summary.json').exists():
    gaps.append(_unfinished(run))
  return run._replace(gaps=tuple(gaps))


def read_all(workdirs: Sequence[str | pathlib.Path]) -> list[Run]:
  """Reads work folders, and gives them names that differ.

  Args:
    workdirs: at least one.

  Returns:
    Called as the folders, or as the whole paths where those are alike.

  Raises:
    FileNotFoundError: one of them is no work folder.
  """
  names = [pathlib.Path(workdir).resolve().name for workdir in workdirs]
  if len(set(names)) < len(names):
    names = [str(workdir) for workdir in workdirs]
  return [read(w, name) for w, name in zip(workdirs, names, strict=True)]


def steps_done(run: Run) -> int:
  """Returns the step of the last report, 0 without one."""
  return run.reports[-1]['step'] if run.reports else 0


def total_steps(run: Run) -> int | None:
  """Returns the steps that the run is to have, if config.json says so."""
  return _flat_value(run, 'run.total_steps')


def latest(run: Run, key: str) -> Any:
  """Returns a value of the summary, or of the last report, or None."""
  return (run.summary or (run.reports[-1] if run.reports else {})).get(key)


def series(run: Run, key: str) -> tuple[list[int], list[float]]:
  """Returns the steps and values of a metric where it was reported."""
  found = [
    (report['step'], report[key])
    for report in run.reports
    if isinstance(report.get(key), int | float) and math.isfinite(report[key])
  ]
  return [step for step, _ in found], [value for _, value in found]


def _flat_value(run: Run, key: str) -> Any:
  return flat(run.config).get(key)


def _object(
  path: pathlib.Path, gaps: list[str], check: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
  """Returns a JSON object, {} where there is none; damage goes to `gaps`."""
  if not path.exists():
    return {}
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(value, dict):
      raise Error('it holds no JSON object')
    if not check(value):
      raise Error('a value in it is of another type')
    return value
  except (OSError, ValueError, RecursionError) as error:
    gaps.append(f'{path.name} is damaged and left out ({error}).')
    return {}


def _check_config(config: dict[str, Any]) -> bool:
  run = config.get('run', {})
  return isinstance(run, dict) and isinstance(
    run.get('total_steps'), int | None
  )


def _check_summary(summary: dict[str, Any]) -> bool:
  rows = summary.get('rows', {})
  return (
    isinstance(summary.get('verdict'), str | None)
    and isinstance(rows, dict)
    and all(isinstance(row, dict) for row in rows.values())
    and all(
      isinstance(value, int | float | None)
      for row in rows.values()
      for value in row.values()
    )
  )


def _check_results(evaluation: dict[str, Any]) -> bool:
  results = evaluation.get('results', [])
  return isinstance(results, list) and all(
    isinstance(row, dict)
    and not any(isinstance(value, list | dict) for value in row.values())
    for row in results
  )


def _reports(path: pathlib.Path, gaps: list[str]) -> list[dict[str, Any]]:
  """Returns the lines that can be read; the others are counted in `gaps`.

  Of a long run every second, fourth, ... line is kept, and the last: a figure
  shows no more, and all of them would take a gigabyte.
  """
  if not path.exists():
    return []
  reports: list[dict[str, Any]] = []
  damaged: list[int] = []
  number, read, stride, last = 0, 0, 1, {}
  with path.open(encoding='utf-8', errors='replace') as file:
    for number, line in enumerate(file, 1):
      try:
        report = json.loads(line)
        if type(report['step']) is not int:
          raise ValueError
      except (ValueError, KeyError, TypeError, RecursionError):
        damaged.append(number)
        continue
      last = report
      if read % stride == 0:
        reports.append(report)
      read += 1
      if len(reports) > _MOST_REPORTS:
        reports, stride = reports[::2], 2 * stride
  if reports and reports[-1] is not last:
    reports.append(last)
  if stride > 1:
    gaps.append(f'Of {read:,} reports one in {stride} is shown.')
  if damaged == [number]:
    gaps.append(
      'The last line of metrics.jsonl is cut off: the run was killed, or is '
      'writing it.'
    )
  elif damaged:
    gaps.append(
      f'{len(damaged)} of {number} lines of metrics.jsonl are damaged and '
      f'left out, the first of them line {damaged[0]}.'
    )
  return reports


def _unfinished(run: Run) -> str:
  """Why there is no summary.json, as far as the folder tells."""
  done, total = steps_done(run), total_steps(run)
  written = datetime.datetime.fromtimestamp(
    (run.path / 'metrics.jsonl').stat().st_mtime, datetime.UTC
  )
  last = f'its last report is of {written:%Y-%m-%d %H:%M} UTC'
  if total is not None and done >= total:
    return (
      'There is no summary.json: all steps are done, but the evaluation is '
      f'still running, or was stopped ({last}).'
    )
  of = '' if total is None else f' of {total:,}'
  return (
    f'There is no summary.json: the run stands at step {done:,}{of}; it is '
    f'still running, or was stopped ({last}).'
  )
