"""Pretraining: build, restore, loop, evaluate."""

import json
import math
import pathlib
import signal
import sys
from typing import Any

import jax
import ml_collections
import numpy as np
from clu import metric_writers, parameter_overview
from jax.experimental import multihost_utils

from contrastive_jax import build, evaluate, optim, progress, step
from contrastive_jax.checkpoint import Checkpoints, atomic_write
from contrastive_jax.diagnostics import health
from contrastive_jax.state import TrainState

# Config fields that may change when a run is continued: none of them changes
# what is learned.
_FREE_FIELDS = ('checkpoint', 'log', 'evaluation', 'mapping')


def pretrain(
  config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> dict[str, Any]:
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
    FloatingPointError: the loss is no longer finite.
  """
  workdir = pathlib.Path(workdir)
  job = build.build(config)
  write_config(job, workdir)
  say = progress.say
  for note in job.notes:
    say(note)
  state = build.init_state(job)
  say(
    parameter_overview.get_parameter_overview(state.params, include_stats=False)
  )
  say(optim.parameter_groups(job.config.optimizer, state.params))

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
    with Termination() as termination:
      state, last, unreadable = train(
        job, state, start_step, workdir, checkpoints, termination
      )
      done = int(state.step)
      if done < job.run.total_steps:
        say(f'stopped by SIGTERM at step {done:,}; the checkpoint is written')
        return last
      checkpoints.close()
      # All is saved, so a signal may end the evaluation where it stands.
      termination.exit_at_once()
      say('evaluating raw pixels, the untrained and the trained encoder')
      summary = {
        **last,
        **evaluate.evaluate(job, state, untrained=build.untrained_state(job)),
        'unreadable_images': len(unreadable),
      }
  report_unreadable(unreadable, job.run.num_examples)
  if jax.process_index() == 0:
    atomic_write(workdir / 'summary.json', json.dumps(summary, indent=2) + '\n')
  say(evaluate.table(summary))
  say(f'verdict: {summary["verdict"]}; all of it in {workdir}/summary.json')
  return summary


def train(
  job: build.Job,
  state: TrainState,
  start_step: int,
  workdir: pathlib.Path,
  checkpoints: Checkpoints,
  termination: 'Termination',
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
  """
  config, run = job.config, job.run
  train_step = step.mapped(
    step.make_train_step(job.objective, job.optimizer, config),
    job.mesh,
    config.mapping,
  )
  chance = job.objective.chance(config.batch_size)
  records = Records(workdir, start_step)
  meter = progress.Meter(run, start_step)
  batches = build.train_batches(job, start_step)
  last = records.last
  interval: list[dict[str, jax.Array]] = []  # metrics since the last report
  try:
    for number in range(start_step, run.total_steps):
      with meter.waiting():
        batch = next(batches)
      state, metrics = train_step(state, batch)
      if interval:
        # At most one step is under way while the next batch is awaited.
        jax.block_until_ready(interval[-1])
      interval.append(metrics)
      meter.advance()
      done = number + 1
      stop = termination.requested(done)
      finished = done == run.total_steps
      if stop or finished or done % config.log.every_steps == 0:
        last = {
          'step': done,
          'epoch': done / run.steps_per_epoch,
          **_means(interval),
          'chance_loss': chance,
          'learning_rate': float(job.learning_rate(number)),
          **meter.read(done),
        }
        last['verdict'] = health.verdict(last)
        records.write(last)
        meter.show(last)
        interval = []
      if stop or finished or done % config.checkpoint.every_steps == 0:
        loss = float(metrics['loss'])
        if not math.isfinite(loss):
          raise FloatingPointError(
            f'the loss of step {done:,} is {loss}; its state is not saved'
          )
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


def write_config(job: build.Job, workdir: pathlib.Path) -> None:
  """Writes config.json, or compares with the one of the run to be continued.

  Args:
    job: whose resolved config is written.
    workdir: is made if it is missing.

  Raises:
    ValueError: the folder holds another experiment, or something else.
  """
  if workdir.exists() and not workdir.is_dir():
    raise ValueError(f'the work folder {workdir} is a file')
  path = workdir / 'config.json'
  config = json.loads(job.config.to_json())
  if path.exists() and any((workdir / 'checkpoints').glob('*')):
    try:
      before = json.loads(path.read_text())
      flat_before, flat = _flat(before), _flat(config)
    except (ValueError, AttributeError) as error:
      raise ValueError(
        f'{path} is damaged ({error}); move it away, or use another --workdir'
      ) from error
    for key in sorted(flat.keys() | flat_before.keys()):
      if key.split('.')[0] not in _FREE_FIELDS:
        old, new = flat_before.get(key), flat.get(key)
        if old != new:
          raise ValueError(
            f'{workdir} holds a run with {key}={old}, this one has {key}={new}:'
            ' use another --workdir'
          )
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(config, indent=2) + '\n')


def report_unreadable(unreadable: dict[int, str], num_examples: int) -> None:
  """Names the images that could not be read, if there were any."""
  if unreadable:
    progress.say(
      f'{len(unreadable)} of {num_examples:,} images could not be read and '
      'were skipped: ' + ', '.join(unreadable[i] for i in sorted(unreadable))
    )


class Termination:
  """Whether SIGTERM asked this job to stop, in every process alike."""

  def __init__(self):
    """Does nothing yet; the signal is caught within `with`."""
    self._requested = self._exit = False

  def __enter__(self) -> 'Termination':
    if jax.process_count() == 1:
      self._before = signal.signal(signal.SIGTERM, self._receive)
    return self

  def __exit__(self, *_) -> None:
    if jax.process_count() == 1:
      signal.signal(signal.SIGTERM, self._before)

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
    if self._requested:
      sys.exit(0)


class Records:
  """metrics.jsonl and TensorBoard's events, written by process 0."""

  def __init__(self, workdir: pathlib.Path, start_step: int):
    """Opens both; lines that a killed run wrote after start_step are dropped."""
    self.last: dict[str, Any] = {}
    self._path = workdir / 'metrics.jsonl'
    self._main = jax.process_index() == 0
    if self._path.exists():
      lines = []
      for line in self._path.read_text().splitlines():
        try:
          report = json.loads(line)
        except ValueError:
          continue  # cut off when the process was killed
        if report['step'] <= start_step:
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


def _means(interval: list[dict[str, jax.Array]]) -> dict[str, float]:
  """The mean of each metric over some steps."""
  values = jax.device_get(interval)
  return {k: float(np.mean([v[k] for v in values])) for k in values[0]}


def _flat(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  """{'a': {'b': 1}} to {'a.b': 1}."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat.update(_flat(value, f'{prefix}{key}.'))
    else:
      flat[f'{prefix}{key}'] = value
  return flat
