"""What a run tells while it goes on: a bar on a terminal, lines in a log."""

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import tqdm

from contrastive_jax.objectives import Run

_DAY = 86_400


def say(text: str, *, by_all: bool = False) -> None:
  """Prints a line, above the bar if there is one.

  Args:
    text: of the line.
    by_all: by every process, and not by process 0 alone.
  """
  if by_all or jax.process_index() == 0:
    tqdm.tqdm.write(text)
    sys.stdout.flush()


def duration(seconds: float) -> str:
  """Returns '42 s', '14 minutes', '3.2 hours' or '2.5 days'."""
  if seconds < 100:
    return f'{seconds:.2g} s' if seconds < 10 else f'{seconds:.0f} s'
  if seconds < 100 * 60:
    return f'{seconds / 60:.0f} minutes'
  if seconds < _DAY:
    return f'{seconds / 3600:.1f} hours'
  return f'{seconds / _DAY:.1f} days'


class Meter:
  """Counts images and seconds between two reports, and shows the reports."""

  def __init__(
    self,
    run: Run,
    start_step: int,
    minutes: float | None = None,
    plural: str = 'images',
  ):
    """Begins at start_step; the clock runs from the first `restart` on.

    Args:
      run: sizes.
      start_step: steps done before.
      minutes: that the run should take; None: a day is too long.
      plural: what is counted.
    """
    self._run, self._plural = run, plural
    self._minutes = minutes
    self._start = start_step
    self._began = time.perf_counter()
    self._since: float | None = None
    self._step = start_step
    self._waited = 0.0
    self._bar = None
    if sys.stderr.isatty() and jax.process_index() == 0:
      self._bar = tqdm.tqdm(
        total=run.total_steps, initial=start_step, unit='step', leave=False
      )

  def __call__(self, moment: Any) -> None:
    """Counts a step (an action of the loop); says what the first ones took.

    Args:
      moment: of `loop.Moment`.
    """
    if self._bar is not None:
      self._bar.update()
    number = moment.done - self._start
    if number > 2:
      return
    jax.block_until_ready(moment.metrics)
    if number == 1:
      seconds = time.perf_counter() - self._began
      say(f'the first step is compiled: {duration(seconds)}')
      self.restart(moment.done)  # it is mostly compilation
    elif number == 2 and self._since is not None:
      seconds = time.perf_counter() - self._since
      say(self.estimate(seconds, self._run.total_steps - moment.done))

  def estimate(self, seconds: float, steps: int) -> str:
    """Returns what a step and the run will take, and what fits the time.

    Args:
      seconds: that a step takes.
      steps: that are left.
    """
    left = seconds * steps
    text = (
      f'a step takes {seconds:.2g} s: the {steps:,} steps left take about '
      f'{duration(left)}'
    )
    if self._minutes is None:
      limit, wanted, time = _DAY, 3600.0, 'An hour is'
    else:
      # The first steps are no more than an estimate.
      limit, wanted = 1.5 * 60 * self._minutes, 60 * self._minutes
      time = f'{self._minutes:g} minutes are'
    if left > limit:
      fitting = int(wanted / seconds)
      fitting = max(1, round(fitting, 1 - len(str(fitting))))
      text += (
        f'. {time} enough for --config.steps={fitting}; fewer pixels '
        '(--config.data.image_size), a narrower encoder '
        '(--config.encoder.width) make steps faster'
      )
    return text

  @contextlib.contextmanager
  def waiting(self, under_way: Any) -> Iterator[None]:
    """The time within is spent waiting for data, if the devices wait too.

    Args:
      under_way: metrics of the step before. If it is still being computed when
        the data is there, nothing waited.
    """
    began = time.perf_counter()
    yield
    if all(x.is_ready() for x in jax.tree.leaves(under_way)):
      self._waited += time.perf_counter() - began

  def restart(self, done: int) -> None:
    """Counts from here: the first step, say, is mostly compilation."""
    self._since = time.perf_counter()
    self._step = done
    self._waited = 0.0

  def read(self, done: int) -> dict[str, float | None]:
    """Returns the speed since the last reading, and begins anew.

    Args:
      done: steps done.

    Returns:
      images_per_second, data_wait (share of the time spent waiting for data)
      and seconds_left; None where nothing was timed yet.
    """
    speed = wait = left = None
    if self._since is not None and done > self._step:
      seconds = time.perf_counter() - self._since
      rate = (done - self._step) / seconds
      speed = rate * self._run.batch_size
      wait = self._waited / seconds
      left = (self._run.total_steps - done) / rate
    self.restart(done)
    return {
      'images_per_second': speed,
      'data_wait': wait,
      'seconds_left': left,
    }

  def show(self, report: dict[str, Any]) -> None:
    """Prints a report: a line in a log, the bar's tail on a terminal."""
    parts = [
      f'loss {report["loss"]:.4f} (chance {report["chance_loss"]:.4f})',
    ]
    if 'contrastive_accuracy' in report:
      parts.append(f'accuracy {report["contrastive_accuracy"]:.3f}')
    parts += [
      f'{title} {report[key]:.1%}'.replace('%', ' %')
      for title, key in (('kNN', 'online_knn'), ('probe', 'online_probe'))
      if key in report
    ]
    if report['images_per_second'] is not None:
      parts += [
        f'{report["images_per_second"]:,.0f} {self._plural}/s',
        f'waiting for data {report["data_wait"]:.0%}',
      ]
    if self._bar is not None:
      self._bar.set_postfix_str(', '.join(parts))
      return
    if report['seconds_left'] is not None:
      left = datetime.timedelta(seconds=round(report['seconds_left']))
      parts.append(f'left {left}')
    say(
      f'step {report["step"]:,}/{self._run.total_steps:,}, '
      f'epoch {report["epoch"]:.1f}, ' + ', '.join(parts)
    )

  def close(self) -> None:
    """Removes the bar."""
    if self._bar is not None:
      self._bar.close()
