"""evaluation.json: the results of a run's checkpoints, of any protocol."""

import fcntl
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from contrastive_jax.config import Error
from contrastive_jax.training.sidefiles import atomic_write


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns all results in the file, of all steps.

  Args:
    path: of evaluation.json; none if there is no such file.

  Raises:
    ValueError: it is damaged.
  """
  if not path.exists():
    return []
  try:
    stored = json.loads(path.read_text(encoding='utf-8'))
    # Earlier versions kept the results of one step only, and named it once.
    once = {'step': stored['step']} if 'step' in stored else {}
    results = [once | result for result in stored['results']]
    for result in results:
      hash(_key(result))
    return results
  except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
    raise Error(
      f'{path} is damaged ({error!r}): repair it or move it away'
    ) from None


def check(path: pathlib.Path) -> None:
  """Refuses a file, before hours of work, that could not be written after it.

  Args:
    path: of evaluation.json, which need not exist.

  Raises:
    Error: it is damaged, or its folder is not to be written.
  """
  read(path)
  if not os.access(path.parent, os.W_OK):
    raise Error(f'{path} cannot be written: its folder is read-only')


def add(path: pathlib.Path, found: Sequence[dict[str, Any]]) -> None:
  """Adds results, in the place of earlier ones of the same measurement.

  Args:
    path: of evaluation.json, which need not exist.
    found: a dict each with at least step, protocol, representation and data.

  Raises:
    ValueError: the file is damaged.
  """
  fresh = {_key(result) for result in found}
  # Another evaluation of the same folder may be at it, too.
  with path.with_suffix('.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    kept = [r for r in read(path) if _key(r) not in fresh]
    results = [*kept, *found]
    atomic_write(path, json.dumps({'results': results}, indent=2) + '\n')


def _key(result: dict[str, Any]) -> tuple:
  """What is measured once."""
  names = ('step', 'protocol', 'representation', 'data')
  # Other prompts make another classifier.
  prompts = result['protocol'] == 'zero_shot' and result.get('setting')
  return (*(result[k] for k in names), result.get('seed'), prompts)
