"""Pretraining: build, restore, loop, evaluate."""

import json
import math
import pathlib
import signal
import sys
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from jax.experimental import multihost_utils

from contrastive_jax.config import Config
from contrastive_jax.diagnostics import embedding, health
from contrastive_jax.evaluation import comparison
from contrastive_jax.training import build, optim, progress, step, workfolder
from contrastive_jax.training.checkpoint import Checkpoints, atomic_write
from contrastive_jax.training.state import TrainState


class Termination:
  """Whether SIGTERM asked this job to stop, in every process alike."""

  def __init__(self):
    """Does nothing yet; the signal is caught within `with`."""
    self._requested = self._exit = False

  def __enter__(self) -> 'Termination':
    self._before = signal.getsignal(signal.SIGTERM)
    if jax.process_count() == 1:
      signal.signal(signal.SIGTERM, self._receive)
    return self

  def __exit__(self, *_) -> None:
    signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)

  def _receive(self, *_) -> None:
    self._requested = True
    if self._exit:
      sys.exit(0)

  def requested(self, step: int) -> bool:
    """Returns whether to stop after `step`; the processes agree on one."""
    if jax.process_count() == 1:
      return self._requested
    # JAX's coordination service has caught the signal of any process, and
    # names one step to all of them.
    return multihost_utils.reached_preemption_sync_point(step)

  def exit_at_once(self) -> None:
    """From now on a signal ends the process, with success."""
    self._exit = True
    signal.signal(signal.SIGTERM, self._receive)
    if self._requested:
      sys.exit(0)


def pretrain(config: Config, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Trains an encoder without labels, then measures what it learned.

  The same call on the same work folder continues where the newest intact
  checkpoint stands; a finished run is evaluated again.

  Args:
    config: as made by a file of configs/.
    workdir: folder for config.json, metrics.jsonl, TensorBoard events,
      checkpoints and summary.json. Shared by all processes.

  Returns:
    What stands in summary.json; without the evaluation when SIGTERM ended the
    training.

  Raises:
    ValueError: config, data, devices or work folder do not fit together.
    FileNotFoundError: the data is not there.
    FloatingPointError: the loss or the gradient is no longer finite.
    health.Collapsed: the embedding collapsed, and config.on_collapse is 'stop'.
  """
  with Termination() as termination:
    workdir = workfolder.local_path(workdir)
    job = build.build(config)
    workfolder.write_config(job, workdir)
    say = progress.say
    for note in job.notes:
      say(note)
    state = build.init_state(job)
    table = parameter_overview.get_parameter_overview
    say(table(state.params, include_stats=False))
    say(
      optim.parameter_groups(
        job.config.optimizer,
        state.params,
        steps_per_epoch=job.run.steps_per_epoch,
      )
    )
    with Checkpoints(
      workdir / 'checkpoints',
      every_steps=job.config.checkpoint.every_steps,
      keep=job.config.checkpoint.keep,
      log=say,
    ) as checkpoints:
      start_step = 0
      if restored := checkpoints.restore(state):
        state, start_step = restored
        say(f'continuing from the checkpoint of step {start_step:,}')
      try:
        state, last, unreadable = train(
          job, state, start_step, workdir, checkpoints, termination
        )
      except health.Collapsed as collapsed:
        _write_summary(workdir, {**collapsed.report, **comparison.NOTHING})
        raise
    unreadable = workfolder.report_unreadable(unreadable, job, workdir)
    done = int(state.step)
    if done < job.run.total_steps:
      say(f'stopped by SIGTERM at step {done:,}; the checkpoint is written')
      return last
    # All is saved, so a signal may end the evaluation where it stands.
    termination.exit_at_once()
    say('evaluating what was learned')
    summary = {
      **last,
      **comparison.compare(job, state, untrained=build.untrained_state(job)),
      'unreadable_images': unreadable,
    }
    _write_summary(workdir, summary)
    say(comparison.table(summary))
    say(f'verdict: {last.get("verdict")}; all of it in {workdir}/summary.json')
    return summary


def train(
  job: build.Job,
  state: TrainState,
  start_step: int,
  workdir: pathlib.Path,
  checkpoints: Checkpoints,
  termination: Termination,
) -> tuple[TrainState, dict[str, Any], dict[int, str]]:
  """Runs the loop from start_step to the end, or to a SIGTERM.

  Args:
    job: the parts.
    state: at start_step; its memory is reused.
    start_step: updates done.
    workdir: of the metrics.
    checkpoints: where states go, every so many steps.
    termination: whether the process was asked to stop.

  Returns:
    The state, the last report (loss, speed, ...), and the examples that could
    not be read, by id.

  Raises:
    FloatingPointError: the loss is no longer finite.
    health.Collapsed: see `pretrain`.
  """
  config, run = job.config, job.run
  train_step = step.mapped(
    step.make_train_step(job.objective, job.optimizer, job.modality),
    job.mesh,
    config.mapping,
  )
  chance = job.objective.chance(config.batch_size)
  records = workfolder.Records(workdir, start_step)
  meter = progress.Meter(run, start_step)
  batches = build.train_batches(job, start_step)
  last = records.last
  interval: list[dict[str, jax.Array]] = []  # metrics since the last report
  try:
    for number in range(start_step, run.total_steps):
      with meter.waiting(interval[-1:]):
        batch = next(batches)
      (state, metrics), embeddings = train_step(state, batch)
      if interval:
        # At most one step is under way while the next batch is awaited.
        jax.block_until_ready(interval[-1])
      interval.append(metrics)
      meter.advance()
      done = number + 1
      stop = termination.requested(done)
      finished = done == run.total_steps
      if stop or finished or done % config.log.every_steps == 0:
        before = last.get('verdict', 'ok')
        rows = embedding.fetch(embeddings, job.mesh)
        last = {
          'step': done,
          'epoch': done / run.steps_per_epoch,
          **_means(interval),
          **embedding.statistics(rows),
          'chance_loss': chance,
          'learning_rate': float(np.asarray(job.learning_rate(number))),
          **meter.read(done),
        }
        last['verdict'] = health.verdict(
          last,
          judged_from=job.judged_from,
          largest_rank=min(len(rows[0]) - 1, rows[0].shape[1]),
          known=job.objective.causes,
        )
        _check_finite(last, done)
        records.write(last)
        meter.show(last)
        _warn(job, last, before)
        interval = []
      if stop or finished or done % config.checkpoint.every_steps == 0:
        _check_finite(jax.device_get(metrics), done)
        checkpoints.save(done, state, force=True)
      if stop:
        break
      if number == start_step:
        jax.block_until_ready(metrics)
        meter.restart(done)  # the first step is mostly compilation
  finally:
    meter.close()
    records.close()
    batches.close()
  return state, last, batches.unreadable


def _write_summary(workdir: pathlib.Path, summary: dict[str, Any]) -> None:
  if jax.process_index() == 0:
    text = json.dumps(summary, indent=2) + '\n'
    atomic_write(workdir / 'summary.json', text)


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
      raise FloatingPointError(
        f'{name} is {values[name]} at step {done:,}; that state is not saved'
      )


def _means(interval: list[dict[str, jax.Array]]) -> dict[str, float]:
  """The mean of each metric over some steps."""
  values = jax.device_get(interval)
  return {k: float(np.mean([v[k] for v in values])) for k in values[0]}
