"""The loop: steps, and what happens every so many of them."""

import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from contrastive_jax.config import DivergedError
from contrastive_jax.diagnostics import embedding, health
from contrastive_jax.training import build, progress, records, watchdog, zero
from contrastive_jax.training.best import Best
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.termination import Termination


class Moment(NamedTuple):
  """What an action sees after a step.

  `metrics` and `embeddings` are the step's, on the devices; `ending` says that
  no step follows.
  """

  done: int
  state: TrainState
  metrics: dict[str, jax.Array]
  embeddings: Any
  ending: bool


Action = Callable[[Moment], None]


def train(
  job: build.Job,
  state: TrainState,
  start_step: int,
  workdir: pathlib.Path,
  checkpoints: Checkpoints,
  termination: Termination,
  on_report: Callable[[dict[str, Any]], None] | None = None,
  *,
  interval: dict[str, list[float]] | None = None,
  watch: Any = None,
) -> tuple[TrainState, dict[str, Any], dict[int, str]]:
  """Runs the loop from start_step to the end, or to a signal.

  Args:
    job: the parts.
    state: at start_step; its memory is reused.
    start_step: updates done.
    workdir: of the metrics.
    checkpoints: where states go, every so many steps.
    termination: whether the process was asked to stop.
    on_report: called with every report.
    interval: of `Report.interval`, when the state was saved.
    watch: a `during.Watch`, which measures the encoder while it is trained, or
      None.

  Returns:
    The state, the last report (loss, speed, ...), and the examples that could
    not be read, by id.

  Raises:
    DivergedError: the loss is no longer finite.
    health.Collapsed: config.on_collapse is 'stop', and it has.
  """
  train_step = build.train_step(job)
  batches = build.train_batches(job, start_step)
  meter = progress.Meter(
    job.run, start_step, job.config.minutes, job.modality.plural
  )
  report = Report(job, workdir, start_step, meter, on_report, interval, watch)
  if start_step == 0:
    report.begin(state)
  # In this order after every step; each knows when it is due.
  actions: list[Action] = [
    meter,
    report,
    save_checkpoints(job, checkpoints, report),
  ]
  best = None
  if (by := job.config.checkpoint.best_by) != 'none':
    best = Best(by, workdir, lambda: report.last)
    actions.append(best)
  metrics = None
  dog = watchdog.Watchdog(job.config.watchdog_minutes, jax.process_index())
  try:
    dog.start()
    for done in range(start_step + 1, job.run.total_steps + 1):
      with meter.waiting(metrics):
        batch = next(batches)
      before = metrics
      (state, metrics), embeddings = train_step(state, batch)
      # At most one step is under way while the next batch is awaited.
      jax.block_until_ready(before)
      if before is not None:
        dog.finished(done - 1)
      termination.begin()
      stop = termination.requested(done)
      ending = stop or done == job.run.total_steps
      with dog.patient():
        for action in actions:
          action(Moment(done, state, metrics, embeddings, ending))
      if stop:
        break
  finally:
    dog.end()
    meter.close()
    report.close()
    if best is not None:
      best.close()
    batches.close()
  return state, report.last, batches.unreadable


class Report:
  """An action: measures, judges, writes and shows, every log.every_steps."""

  def __init__(
    self,
    job: build.Job,
    workdir: pathlib.Path,
    start_step: int,
    meter: progress.Meter,
    on_report: Callable[[dict[str, Any]], None] | None,
    interval: dict[str, list[float]] | None = None,
    watch: Any = None,
  ):
    """Opens metrics.jsonl and TensorBoard's events.

    Args:
      job: the parts.
      workdir: where they are.
      start_step: what was written of later steps is dropped.
      meter: knows the speed, and shows.
      on_report: called with every report.
      interval: the metrics of the steps since the last report, by name; None:
        there was no step.
      watch: a `during.Watch`, or None.
    """
    self._job, self._meter, self._on_report = job, meter, on_report
    self._watch, self._reported = watch, start_step
    self._records = records.Records(workdir, start_step, job.config)
    # Since the last report: of steps before the run was continued, and after.
    self._before = interval or {}
    self._interval: list[dict[str, jax.Array]] = []
    self.last = self._records.last

  def begin(self, state: TrainState) -> None:
    """Reports step 0: what the encoder is worth before it is trained."""
    if self._watch is not None:
      self._records.write(self._watch.start(zero.whole(state)))

  def __call__(self, moment: Moment) -> None:
    """Takes the step's metrics in; reports if it is time."""
    job, done = self._job, moment.done
    self._interval.append(moment.metrics)
    # Not where a signal ends it: the run has the same reports without one.
    at_end = done == job.run.total_steps
    if not (at_end or done % job.config.log.every_steps == 0):
      return
    before = self.last.get('verdict', 'ok')
    rows = embedding.fetch(moment.embeddings, job.mesh)
    self.last = {
      'step': done,
      'epoch': done / job.run.steps_per_epoch,
      'chance_loss': job.objective.chance(job.config.batch_size),
      **{k: float(np.mean(v)) for k, v in self.interval().items()},
      **embedding.statistics(rows),
      'learning_rate': float(np.asarray(job.learning_rate(done - 1))),
      **self._meter.read(done),
    }
    self.last['verdict'] = health.verdict(
      self.last,
      grace_steps=job.grace_steps,
      quiet_steps=job.quiet_steps,
      largest_rank=min(len(rows[0]) - 1, rows[0].shape[1]),
      known=job.objective.causes,
    )
    _check_finite(self.last, done)
    watch = self._watch
    if watch is not None and not watch.due(self._reported, done):
      watch = None
    self._reported = done
    if watch is not None:
      self.last |= watch.measure(zero.whole(moment.state))
      self._meter.restart(done)
    self._records.write(self.last)
    self._meter.show(self.last)
    if self._on_report is not None:
      self._on_report(self.last)
    _warn(job, self.last, before)
    if watch is not None:
      watch.judge(self.last)
    self._before, self._interval = {}, []

  def interval(self) -> dict[str, list[float]]:
    """Returns each metric of the steps since the last report."""
    values = jax.device_get(self._interval)
    names = values[0] if values else self._before
    return {
      name: [*self._before.get(name, []), *(float(v[name]) for v in values)]
      for name in names
    }

  def close(self) -> None:
    """Waits until all is on disk."""
    self._records.close()


def save_checkpoints(
  job: build.Job, checkpoints: Checkpoints, report: Report
) -> Action:
  """Returns the action that saves the state every checkpoint.every_steps."""

  def save(moment: Moment) -> None:
    if moment.ending or moment.done % job.config.checkpoint.every_steps == 0:
      _check_finite(jax.device_get(moment.metrics), moment.done)
      checkpoints.save(
        moment.done,
        moment.state,
        force=True,
        more={'interval': report.interval()},
      )

  return save


def _warn(job: build.Job, report: dict[str, Any], before: str) -> None:
  """Says a verdict that is new and not 'ok', with its likely causes.

  Args:
    job: whose config may want a collapsed run to be stopped.
    report: with its verdict.
    before: the verdict before.

  Raises:
    health.Collapsed: the run has collapsed, and is to stop then.
  """
  verdict = report['verdict']
  stop = verdict == 'collapsed' and job.config.on_collapse == 'stop'
  if jax.process_count() > 1:
    # The processes stop together, though one may round another way.
    stop = bool(multihost_utils.broadcast_one_to_all(np.asarray(stop)))
  if verdict not in job.objective.causes and not stop:
    return
  causes = job.objective.causes.get(verdict, 'process 0 sees a collapse')
  sentence = (
    f'{verdict} at step {report["step"]:,} (effective rank '
    f'{report["effective_rank"]:.1f}, spread {report["embedding_spread"]:.3f}, '
    f'loss {report["loss"]:.4f} where chance is {report["chance_loss"]:.4f}). '
    f'Likely causes: {causes}'
  )
  if stop:
    raise health.Collapsed(sentence, report)
  if verdict != before:
    progress.say(sentence)


def _check_finite(values: dict[str, Any], done: int) -> None:
  """Stops a run whose state, from here on, would be worthless."""
  for name in ('loss', 'gradient_norm'):
    if not math.isfinite(values[name]):
      raise DivergedError(
        f'{name} is {values[name]} at step {done:,}; that state is not saved'
      )
