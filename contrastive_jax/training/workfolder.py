"""The work folder: whether it is this run's, and what is written into it."""

import json
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from contrastive_jax.config import Config, Error, flat
from contrastive_jax.data import headers
from contrastive_jax.training import (
  build,
  identity,
  processes,
  progress,
  sidefiles,
  sizing,
)
from contrastive_jax.training.sidefiles import atomic_write

_NAMED = 20  # unreadable images; the file has all


def local_path(workdir: str | pathlib.Path) -> pathlib.Path:
  """Returns the folder as a path.

  Raises:
    ValueError: it is empty, a URL, or a file.
  """
  if not str(workdir).strip():
    raise Error('the work folder has no name: give --workdir a folder')
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
  before = flat(sidefiles.read_object(path))
  config = ml_collections.ConfigDict(config.to_dict())
  if before.get('minutes') == config.minutes:
    now = flat(config.to_dict())
    try:
      config.update_from_flattened_dict(
        {f: before[f] for f in sizing.OPEN if now[f] is None and f in before}
      )
    except TypeError as error:
      raise Error(f'{path} is damaged ({error})') from error
  return config


def config_json(job: build.Job) -> dict[str, Any]:
  """Returns what config.json says of a run.

  Args:
    job: whose resolved config it is.
  """
  config = json.loads(job.config.to_json())
  # The number of images is part of the experiment: ids and steps follow it.
  config['run'] = json.loads(json.dumps(job.run._asdict()))
  config['run']['devices'] = job.mesh.size
  config['run']['data'] = identity.of_data(job.source.train)
  for name, text in job.modality.files.items():
    config['run'][name.partition('.')[0]] = identity.of_text(text)
  return identity.sealed(config)


def write_config(
  job: build.Job, workdir: pathlib.Path
) -> tuple[int | None, list[str]]:
  """Writes config.json, or compares with the one of the run to be continued.

  Args:
    job: whose resolved config is written.
    workdir: is made if it is missing.

  Returns:
    How many steps the run to be continued was to have, None if it begins; and
    sentences about what differs from it and may.

  Raises:
    ValueError: the folder holds another experiment, or is not shared by all
      processes, or a file in it is damaged or cannot be written; or the
      processes have different configs or data.
  """
  path = workdir / 'config.json'
  with processes.together():
    sidefiles.check(workdir)
    _read_unreadable(workdir)  # at its end a run adds to it: not after hours
    config = config_json(job)
    steps, said = _compare(config, workdir)
  processes.check_same(
    [json.loads(text) for text in processes.gather(json.dumps(config))]
  )
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    for name, text in job.modality.files.items():
      atomic_write(workdir / name, text)
    atomic_write(path, json.dumps(config, indent=2) + '\n')
  multihost_utils.sync_global_devices('config.json')
  seen = multihost_utils.process_allgather(np.asarray(path.exists()))
  if not np.all(seen):
    raise Error(
      f'{workdir} is not shared: only {np.sum(seen)} of {np.size(seen)} '
      'processes see the config.json that process 0 wrote'
    )
  return steps, said


def _compare(
  config: dict[str, Any], workdir: pathlib.Path
) -> tuple[int | None, list[str]]:
  """Returns what `write_config` does."""
  kept = [path.name for path in (workdir / 'checkpoints').glob('*')]
  if not kept:
    return None, []
  path = workdir / 'config.json'
  try:
    before = sidefiles.read_object(path)
  except Error as error:
    raise Error(
      f'{path} is missing or damaged ({error.__cause__}), but there are '
      'checkpoints: use another --workdir'
    ) from error
  said = identity.compare(workdir, before, config)
  newest = max((int(name) for name in kept if name.isdecimal()), default=0)
  total = config['run']['total_steps']
  if newest > total:
    raise Error(
      f'{workdir} has a checkpoint of step {newest:,}, and {total:,} steps are '
      'asked for: a run can be extended, not taken back'
    )
  return before['run'].get('total_steps'), said


def begin(workdir: pathlib.Path) -> None:
  """Removes, by process 0, the summary of a run that is to go on."""
  if jax.process_index() == 0:
    (workdir / 'summary.json').unlink(missing_ok=True)


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
    found = json.loads(path.read_text(encoding='utf-8'))
    if isinstance(found, list):  # of an earlier version: ids alone
      found = dict.fromkeys(found, '')
    return {int(i): str(reason) for i, reason in found.items()}
  except (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
  ) as error:
    raise Error(
      f'{path} is damaged ({error}): remove it, it only names images'
    ) from error
