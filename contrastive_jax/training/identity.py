"""Is this the run that a folder was made for? Its config, and its data."""

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from contrastive_jax import objectives, schedules
from contrastive_jax.config import Config, Error, base, flat
from contrastive_jax.data import readers
from contrastive_jax.data.split import Split

# What may change when a run is continued: it changes nothing that is learned
# (what happens at a collapse is no part of it).
_FREE = (
  'checkpoint',
  'log',
  'evaluation',
  'on_collapse',
  'on_worse',
  'watchdog_minutes',
)
# What changes rounding alone, which is said.
_ROUNDING = {
  'mapping': 'mapping',
  'sharding': 'sharding',
  'microbatch': 'microbatch',
  'run.devices': 'devices',
}
# How long it lasts: a run may be extended, which is said.
_LENGTH = ('steps', 'epochs', 'run.total_steps')
# What decides is `run.data`, the names and sizes of the images.
_PLACE = 'data.source'
_READERS = 32  # files whose sizes are asked for at a time; networks are slow


def of_data(split: Split) -> str:
  """Returns a hash of what is trained on, wherever it lies.

  Args:
    split: of training. Of files the names within their folder and the sizes
      count, of images in memory all of their bytes; of other data how many
      there are. Labels count where they are in memory.
  """
  digest = hashlib.sha256()

  def add(value: Any) -> None:
    data = value if isinstance(value, bytes) else repr(value).encode()
    digest.update(b'%d:' % len(data))
    digest.update(data)

  add((split.size, split.channels, split.num_classes))
  if split.labels is not None:
    add(np.ascontiguousarray(split.labels, np.int32).tobytes())
  if split.paths is not None:
    paths = [os.path.abspath(path) for path in split.paths]
    # A single image would be its own folder.
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
      sizes = pool.map(_size, paths, chunksize=1024)
      for path, size in zip(paths, sizes, strict=True):
        add(os.fsencode(os.path.relpath(path, folder)))
        add(size)
  elif isinstance(split.reader, readers.InMemory):
    images = np.ascontiguousarray(split.reader.images)
    add((images.shape, images.dtype.name))
    digest.update(images.reshape(-1).data)
  elif split.keys is None:
    add(split.name)
  for key in split.keys or ():
    add(os.fsencode(key))
  return digest.hexdigest()


def of_text(text: str) -> str:
  """Returns a hash of a text."""
  return hashlib.sha256(text.encode()).hexdigest()


def _size(path: str) -> int:
  try:
    return os.stat(path).st_size
  except OSError:
    return -1  # it cannot be read, and is passed over


def sealed(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config.json with a hash of itself, by which a loss is noticed."""
  return {**config, 'run': {**config['run'], 'sha256': _seal(config)}}


def _seal(config: Mapping[str, Any]) -> str:
  fields = flat(config)
  fields.pop('run.sha256', None)
  return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def compare(
  where: Any, before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[str]:
  """Compares two config.json.

  Args:
    where: the folder, for the sentences.
    before: of the run to be continued.
    now: of this one.

  Returns:
    Sentences about what differs and may.

  Raises:
    Error: they are of two experiments, or `before` has lost something.
  """
  if not isinstance(before.get('run'), Mapping):
    raise Error(
      f'{where}/config.json is damaged (it does not say how long the run is): '
      'use another --workdir'
    )
  said = []
  old, new = _complete(before), flat(now)
  same_data = old.get('run.data') == new.get('run.data')
  if 'run.data' in old and same_data:
    if old.get(_PLACE) != new[_PLACE]:
      said.append(
        f'the data was at {old.get(_PLACE)} before and is at {new[_PLACE]} now:'
        ' its names and sizes are the same'
      )
    old[_PLACE] = new[_PLACE]
  for key in sorted(new):
    if key.split('.')[0] in _FREE or key in ('run.data', 'run.sha256'):
      continue
    if key not in old:  # of another version
      continue
    if old[key] == new[key]:
      continue
    if key in _ROUNDING:
      said.append(
        f'{_ROUNDING[key]}: {old[key]} before, {new[key]} now; the numbers are '
        'the same but for rounding'
      )
    elif key not in _LENGTH:
      raise Error(
        f'{where} holds a run with {key}={old[key]}, this one has '
        f'{key}={new[key]}: use another --workdir'
      )
  if 'run.data' in old and not same_data:
    raise Error(
      f'{where} holds a run on other data: there are as many images, but their '
      'names, sizes or labels are not the same; use another --workdir'
    )
  stored = before['run'].get('sha256')
  if stored is not None and stored != _seal(before):
    raise Error(
      f'{where}/config.json was changed after the run wrote it: undo that, or '
      'use another --workdir'
    )
  return said


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields; those that came later are what they were by default."""
  fields = flat(config)
  defaults = flat(base().to_dict())
  name = fields.get('objective.name')
  if isinstance(name, str) and ':' not in name and name in objectives.names():
    found = objectives.default_fields(name)
    defaults |= {f'objective.{key}': value for key, value in found.items()}
  return json.loads(json.dumps(defaults)) | fields


def extension(
  config: Config, run: objectives.Run, before: int, step: int
) -> str:
  """Returns what another length does to the schedule, in a sentence.

  Args:
    config: of the run, resolved.
    run: its sizes now.
    before: the steps that it was to have.
    step: that it continues from.
  """
  total = run.total_steps
  peak, _ = schedules.peak_learning_rate(config.optimizer, config.batch_size)
  warmup = schedules.warmup_steps(
    config.optimizer, run.num_examples, config.batch_size
  )
  rates = []
  for steps in (before, total):
    schedule, _ = schedules.learning_rate(
      config.optimizer, peak, warmup_steps=warmup, total_steps=steps
    )
    rates.append(float(np.asarray(schedule(step))))
  return (
    f'the run was to have {before:,} steps and has {total:,} now: from step '
    f'{step:,} on, all that follows its length is as in a run of {total:,}, so '
    f'that the learning rate there goes from {rates[0]:.3g} to {rates[1]:.3g}; '
    'the result is not that of such a run from the start'
  )
