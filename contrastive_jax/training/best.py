"""The best checkpoint of a run, beside its newest ones."""

import json
import math
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax

from contrastive_jax.config import Error
from contrastive_jax.training import sidefiles
from contrastive_jax.training.checkpoint import Checkpoints

# What may be best: its key in a report, and whether more of it is better.
MEASURES = {
  'knn': ('online_knn', True),
  'probe': ('online_probe', True),
  'rankme': ('online_rankme', True),
  'loss': ('loss', False),
}


class Best:
  """An action: saves the state of the best report in WORKDIR/best.

  That is a work folder of its own, with the config and one checkpoint, which
  every command takes as it takes a run's.
  """

  def __init__(
    self, by: str, workdir: pathlib.Path, last_report: Callable[[], Any]
  ):
    """Opens the folder, and makes it if it is missing.

    Args:
      by: of `MEASURES`.
      workdir: of the run, with its config.json.
      last_report: returns the newest report.

    Raises:
      Error: best.json is damaged.
    """
    self._by, self._last_report = by, last_report
    self._key, self._more_is_better = MEASURES[by]
    folder = workdir / 'best'
    self._path = folder / 'best.json'
    if jax.process_index() == 0:
      folder.mkdir(exist_ok=True)
      shutil.copyfile(workdir / 'config.json', folder / 'config.json')
    self._checkpoints = Checkpoints(
      folder / 'checkpoints', every_steps=1, keep=1
    )
    self._best: float | None = None
    if self._path.exists() and self._checkpoints.steps():
      found = sidefiles.read_object(self._path)
      if not isinstance(found.get('value'), int | float):
        raise Error(f'{self._path} is damaged (it has no value)')
      if found.get('by') == by:
        self._best = float(found['value'])

  def __call__(self, moment: Any) -> None:
    """Saves the state, if this step's report is the best yet.

    Args:
      moment: of `loop.Moment`.
    """
    report = self._last_report()
    if report.get('step') != moment.done or self._key not in report:
      return
    value = report[self._key]
    if not math.isfinite(value) or not self._is_better(value):
      return
    self._best = value
    self._checkpoints.save(moment.done, moment.state, force=True)
    if jax.process_index() == 0:
      found = {'by': self._by, 'value': value, 'step': moment.done}
      sidefiles.atomic_write(self._path, json.dumps(found, indent=2) + '\n')

  def close(self) -> None:
    """Waits until all is on disk."""
    self._checkpoints.close()

  def _is_better(self, value: float) -> bool:
    if self._best is None:
      return True
    return value > self._best if self._more_is_better else value < self._best
