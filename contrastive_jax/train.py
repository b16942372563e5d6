"""Pretraining: build, restore, loop, evaluate."""

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from clu import parameter_overview

from contrastive_jax.config import Config
from contrastive_jax.data.split import Source
from contrastive_jax.diagnostics import health
from contrastive_jax.evaluation import comparison, during
from contrastive_jax.training import (
  build,
  identity,
  loop,
  optim,
  processes,
  progress,
  workfolder,
  zero,
)
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.lock import Lock
from contrastive_jax.training.sidefiles import atomic_write
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.termination import Termination
from contrastive_jax.weights import start


def pretrain(
  config: Config,
  workdir: str | pathlib.Path,
  source: Source | None = None,
  on_report: Callable[[dict[str, Any]], None] | None = None,
  termination: Termination | None = None,
) -> dict[str, Any]:
  """Trains an encoder without labels, then measures what it learned.

  The same call on the same work folder continues where the newest intact
  checkpoint stands; a finished run is evaluated again.

  Args:
    config: as made by a file of configs/.
    workdir: folder for config.json, parameters.txt, metrics.jsonl, TensorBoard
      events, checkpoints and summary.json. Shared by all processes.
    source: of the data, such as `from_arrays` makes; None: what config.data
      says.
    on_report: called with every report, a dict as in metrics.jsonl.
    termination: that catches signals already; None: they are caught in here.

  Returns:
    What stands in summary.json; without the evaluation when a signal ended the
    training.

  Raises:
    ValueError: config, data, devices or work folder do not fit together.
    FileNotFoundError: the data is not there.
    FloatingPointError: the loss or the gradient is no longer finite.
    health.Collapsed: the embedding collapsed, and config.on_collapse is 'stop'.
  """
  workdir = workfolder.local_path(workdir)
  if termination is None:
    with Termination() as termination:
      return pretrain(config, workdir, source, on_report, termination)
  with Lock(workdir) as lock:
    with processes.together():
      if workdir.exists():  # before anything in it is read
        lock.take()
      config = workfolder.take_choices(config, workdir)
      job = build.build(config, source=source, folder=workdir)
      lock.take()
    before, said = workfolder.write_config(job, workdir)
    say = progress.say
    for note in (*job.notes, *said):
      say(note)
    state = build.init_state(job)
    _log_parameters(job, state, workdir)
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
        if before is not None and before != job.run.total_steps:
          say(identity.extension(job.config, job.run, before, start_step))
      elif job.config.encoder.init or job.config.text_encoder.init:
        with processes.together():
          state, found = start.with_weights(job, state)
        for note in found:
          say(note)
      if start_step < job.run.total_steps:
        workfolder.begin(workdir)
        say('compiling the first step')
      try:
        state, last, unreadable = loop.train(
          job,
          state,
          start_step,
          workdir,
          checkpoints,
          termination,
          on_report,
          interval=checkpoints.more.get('interval'),
          watch=during.watch(job, workdir),
        )
      except (health.Collapsed, during.Worse) as stopped:
        _write_summary(workdir, {**stopped.report, **comparison.NOTHING})
        raise
    state = zero.whole(state)
    unreadable = workfolder.report_unreadable(unreadable, job, workdir)
    done = int(state.step)
    if done < job.run.total_steps:
      say(
        f'stopped by {termination.name} at step {done:,}; the checkpoint is '
        'written',
        by_all=True,
      )
      if termination.exit_code:
        sys.exit(termination.exit_code)
      return last
    # All is saved, so a signal may end the evaluation where it stands.
    termination.end()
    say('evaluating what was learned')
    summary = {
      **last,
      'unreadable_images': unreadable,
      **comparison.compare(job, state, untrained=build.untrained_state(job)),
    }
    _write_summary(workdir, summary)
    say(comparison.table(summary, job.modality.plural))
    say(f'verdict: {last.get("verdict")}; all of it in {workdir}/summary.json')
    return summary


def _log_parameters(
  job: build.Job, state: TrainState, workdir: pathlib.Path
) -> None:
  """Says how many parameters there are; parameters.txt has the whole tables."""
  sizes = [x.size for x in jax.tree.leaves(state.params)]
  progress.say(f'{sum(sizes):,} parameters in {len(sizes)} tensors')
  overview = parameter_overview.get_parameter_overview(
    state.params, include_stats=False
  )
  groups = optim.parameter_groups(
    job.config.optimizer,
    state.params,
    steps_per_epoch=job.run.steps_per_epoch,
  )
  logging.info('%s\n%s', overview, groups)
  if jax.process_index() == 0:
    atomic_write(workdir / 'parameters.txt', f'{overview}\n{groups}\n')


def _write_summary(workdir: pathlib.Path, summary: dict[str, Any]) -> None:
  if jax.process_index() == 0:
    text = json.dumps(summary, indent=2) + '\n'
    atomic_write(workdir / 'summary.json', text)
