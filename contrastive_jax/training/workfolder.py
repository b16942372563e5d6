"""The work folder: what it holds, and whether it is this run's."""

import json
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
from clu import metric_writers
from jax.experimental import multihost_utils

from contrastive_jax.config import Config, Error, flat
from contrastive_jax.data import headers
from contrastive_jax.training import build, progress, sizing
from contrastive_jax.training.checkpoint import atomic_write

# Config fields that may change when a run is continued: none of them changes
# what is learned.
_FREE_FIELDS = ('checkpoint', 'log', 'evaluation', 'mapping')
_NAMED = 20  # unreadable images; the file has all


def local_path(workdir: str | pathlib.Path) -> pathlib.Path:
  """Returns the folder as a path.

  Raises:
    ValueError: it is a URL, or a file.
  """
  if '://' in str(workdir):
    raise Error(f'the work folder {workdir} is a URL: mount it as a folder')
  workdir = pathlib.Path(workdir)
  if workdir.exists() and not workdir.is_dir():
    raise Error(f'the work folder {workdir} is a file')
  return workdir


def take_choices(config: Config, workdir: pathlib.Path) -> Config:
  """Returns a config with what was chosen for it when the run began.

  Args:
    config: fields of `sizing.OPEN` may be None; it is not changed.
    workdir: of the run to be continued, maybe on other devices, for which the
      choice would be another; or new.
  """
  path = workdir / 'config.json'
  if not sizing.is_open(config) or not path.exists():
    return config
  try:
    before = flat(json.loads(path.read_text()))
  except (ValueError, AttributeError):
    return config  # damaged: `write_config` will say so
  config = ml_collections.ConfigDict(config.to_dict())
  if before.get('minutes') == config.minutes:
    now = flat(config.to_dict())
    config.update_from_flattened_dict(
      {f: before[f] for f in sizing.OPEN if now[f] is None and f in before}
    )
  return config


def write_config(job: build.Job, workdir: pathlib.Path) -> None:
  """Writes config.json, or compares with the one of the run to be continued.

  Args:
    job: whose resolved config is written.
    workdir: is made if it is missing.

  Raises:
    ValueError: the folder holds another experiment, or is not shared by all
      processes, or holds an unreadable.json that is damaged.
  """
  _read_unreadable(workdir)  # at its end a run adds to it: not after hours
  path = workdir / 'config.json'
  config = json.loads(job.config.to_json())
  # The number of images is part of the experiment: ids and steps follow it.
  config['run'] = json.loads(json.dumps(job.run._asdict()))
  if any((workdir / 'checkpoints').glob('*')):
    try:
      before = flat(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError) as error:
      raise Error(
        f'{path} is missing or damaged ({error}), but there are checkpoints: '
        'use another --workdir'
      ) from error
    now = flat(config)
    # A field that only one of them has came with another version.
    for key in sorted(now.keys() & before.keys()):
      if key.split('.')[0] not in _FREE_FIELDS and before[key] != now[key]:
        raise Error(
          f'{workdir} holds a run with {key}={before[key]}, this one has '
          f'{key}={now[key]}: use another --workdir'
        )
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(config, indent=2) + '\n')
  multihost_utils.sync_global_devices('config.json')
  seen = multihost_utils.process_allgather(np.asarray(path.exists()))
  if not np.all(seen):
    raise Error(
      f'{workdir} is not shared: only {np.sum(seen)} of {np.size(seen)} '
      'processes see the config.json that process 0 wrote'
    )


def report_unreadable(
  unreadable: dict[int, str], job: build.Job, workdir: pathlib.Path
) -> int:
  """Names the images that no process could read, of earlier runs too.

  Args:
    unreadable: this process's, by id.
    job: for the names.
    workdir: where unreadable.json keeps them: id -> path and reason.

  Returns:
    How many there are.
  """
  before = _read_unreadable(workdir)
  ids = before.keys() | unreadable.keys()
  # The gather wants arrays of one length.
  count = multihost_utils.process_allgather(np.asarray(len(ids)))
  padded = np.full(np.max(count), -1)
  padded[: len(ids)] = sorted(ids)
  gathered = np.unique(multihost_utils.process_allgather(padded))
  found = [int(i) for i in gathered if i >= 0]
  if found and jax.process_index() == 0:
    split = job.source.train
    named = {
      i: before.get(i)
      or f'{split.describe(i)} ({headers.why_unreadable(split, i)})'
      for i in found
    }
    progress.say(
      f'{len(found)} of {split.size:,} images could not be read and were '
      'skipped: '
      + ', '.join(list(named.values())[:_NAMED])
      + (', ... (unreadable.json)' if len(found) > _NAMED else '')
    )
    path = workdir / 'unreadable.json'
    atomic_write(path, json.dumps(named, indent=2) + '\n')
  return len(found)


def _read_unreadable(workdir: pathlib.Path) -> dict[int, str]:
  """Returns the unreadable images of earlier runs, by id; '' has no reason."""
  path = workdir / 'unreadable.json'
  if not path.exists():
    return {}
  try:
    found = json.loads(path.read_text())
    if isinstance(found, list):  # of an earlier version: ids alone
      found = dict.fromkeys(found, '')
    return {int(i): str(reason) for i, reason in found.items()}
  except (OSError, ValueError, TypeError, AttributeError) as error:
    raise Error(
      f'{path} is damaged ({error}): remove it, it only names images'
    ) from error


class Records:
  """metrics.jsonl and TensorBoard's events, written by process 0."""

  def __init__(self, workdir: pathlib.Path, start_step: int):
    """Opens both; what a killed run wrote after start_step is dropped."""
    self.last: dict[str, Any] = {}
    self._path = workdir / 'metrics.jsonl'
    self._main = jax.process_index() == 0
    if self._path.exists():
      lines = []
      for line in self._path.read_text().splitlines():
        try:
          report = json.loads(line)
          number = report['step']
        except (ValueError, KeyError, TypeError):
          continue  # cut off when the process was killed
        if number <= start_step:
          lines.append(line + '\n')
          self.last = report
      if self._main:
        atomic_write(self._path, ''.join(lines))
    self._writer = metric_writers.create_default_writer(
      workdir, just_logging=not self._main
    )

  def write(self, report: dict[str, Any]) -> None:
    """Appends a report."""
    if self._main:
      with self._path.open('a') as file:
        file.write(json.dumps(report) + '\n')
    self._writer.write_scalars(
      report['step'],
      {k: v for k, v in report.items() if isinstance(v, int | float)},
    )

  def close(self) -> None:
    """Waits until all is on disk."""
    self._writer.close()
