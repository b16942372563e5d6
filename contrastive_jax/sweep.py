"""Runs one job for each setting and seed of a sweep, and makes the table.

  python -m contrastive_jax.sweep --workdir=runs/temperature \
      --sweep=experiments/sweeps/temperature_batch_size.py

Each point is a `contrastive_jax.main` of its own, in WORKDIR/points/NAME, and
is scored on a part of the training split (data.held_out): the test split is
not read. The same command continues a sweep that was killed and tries failed
points again. results.csv, results.md and the plots are of all that is done.

What a sweep file is: sweeping/__init__.py.
"""

import fcntl
import json
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from absl import app, flags
from ml_collections import config_flags

from contrastive_jax.commands import command_line
from contrastive_jax.config import Error
from contrastive_jax.sweeping import Overrides, results
from contrastive_jax.sweeping.plan import (
  Point,
  describe,
  load_sweep,
  make_plan,
)
from contrastive_jax.sweeping.progress import (
  AGAIN,
  list_plan,
  pin,
  read_exit_code,
  read_failure,
  read_summary,
  write_whole,
)


def run_points(
  points: Sequence[Point],
  chosen: Sequence[Point],
  workdir: pathlib.Path,
  command: Sequence[str],
) -> int:
  """Runs those of the chosen points that are not done, one after the other.

  Args:
    points: of the whole sweep.
    chosen: some of them.
    workdir: of the results.
    command: the main job's, without what belongs to a point.

  Returns:
    How many failed.

  Raises:
    ValueError: a point was scored on the test split.
    KeyboardInterrupt: SIGTERM or SIGINT asked to stop; the point's process
      has ended.
  """
  results.write(points, workdir)
  failures, elsewhere = 0, []
  for point in chosen:
    done = run_point(points, point, workdir, command)
    if done is None:
      print(
        f'{_place(points, point)}: another process runs it; its turn comes '
        'again at the end',
        flush=True,
      )
      elsewhere.append(point)
    failures += done is False
  for point in elsewhere:
    failures += not run_point(points, point, workdir, command, wait=True)
  return failures


def run_point(
  points: Sequence[Point],
  point: Point,
  workdir: pathlib.Path,
  command: Sequence[str],
  *,
  wait: bool = False,
) -> bool | None:
  """Runs one point if it is not done, and writes what the sweep then has found.

  Args:
    points: of the whole sweep.
    point: one of them.
    workdir: of the results.
    command: the main job's, without what belongs to a point.
    wait: for another process that runs it; what that one has done, or has
      noted as failed, is not done again.

  Returns:
    Whether it has a result now; None if another process runs it, and it is not
    to be waited for.

  Raises:
    ValueError: it was scored on the test split.
    KeyboardInterrupt: as `run_points`.
  """
  place = _place(points, point)
  point.folder.mkdir(parents=True, exist_ok=True)
  failed = point.folder / 'failed.json'
  # The point's process keeps the lock: one that outlives a killed sweep is
  # not joined by a second in the same folder, nor is that of another sweep.
  with (point.folder / 'lock').open('w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
      return None
    summary = read_summary(point)
    if wait and (summary or failed.exists()):
      results.write(points, workdir)
      outcome = results.sentence(summary) if summary else read_failure(point)
      print(f'{place}: the other process has ended: {outcome}', flush=True)
      return summary is not None
    if summary is not None:
      return True
    failed.unlink(missing_ok=True)
    began = time.monotonic()
    code = run_process(
      [*command, f'--workdir={point.folder}', *_config_flags(point.overrides)],
      point.folder / 'log',
      lock,
    )
    seconds = time.monotonic() - began
    # A run that stops at its own collapse exits with 1, but has a result.
    summary = read_summary(point)
    if summary is None:
      lines = (point.folder / 'log').read_text(errors='replace').split('\n')
      last_line = next((x for x in reversed(lines) if x.strip()), 'no output')
      failure = {'exit_code': code, 'last_line': last_line.strip()}
      write_whole(failed, json.dumps(failure) + '\n')
  results.write(points, workdir)
  outcome = (
    f'failed, {read_failure(point)}'
    if summary is None
    else results.sentence(summary)
  )
  print(f'{place}: {outcome}, {seconds:.0f} s', flush=True)
  return summary is not None


def _place(points: Sequence[Point], point: Point) -> str:
  return f'point {point.number} of {len(points)}: {describe(point)}'


def run_process(
  command: Sequence[str], log_path: pathlib.Path, lock: IO[str]
) -> int:
  """Runs one point.

  Args:
    command: with all of its arguments.
    log_path: of what it prints; appended to.
    lock: stays locked as long as the process lives.

  Returns:
    The exit code.

  Raises:
    KeyboardInterrupt: SIGTERM or SIGINT asked to stop, the process was told
      by SIGTERM, and has ended.
  """
  with log_path.open('a') as log:
    print(shlex.join(command), file=log, flush=True)
    process = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      pass_fds=[lock.fileno()],
      # Ctrl-C on a terminal goes to all of a group; the run is to hear of it
      # by SIGTERM, at which it writes a checkpoint.
      start_new_session=True,
    )
    try:
      return process.wait()
    except KeyboardInterrupt:
      process.terminate()
      process.wait()
      raise


def job_array(
  points: Sequence[Point], workdir: pathlib.Path, command: Sequence[str]
) -> str:
  """Returns a script for sbatch whose task i runs point i.

  Args:
    points: those to be run.
    workdir: of the tasks' output.
    command: this sweep's, without --only.
  """
  numbers = [point.number for point in points]
  array = ','.join(map(str, numbers))
  if numbers == list(range(len(numbers))):
    array = f'0-{len(numbers) - 1}'
  return f"""#!/usr/bin/env bash
#SBATCH --job-name=sweep
#SBATCH --array={array}
#SBATCH --output={workdir.absolute()}/slurm-%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
# 120 s before the time limit, to this script: the run is to write a checkpoint.
# Not by SIGTERM: that is scancel's, which ends this script, and tells the run.
#SBATCH --signal=B:USR1@120
# What the cluster wants to know more, partition, GPUs, time: as lines here, or
# as SBATCH_PARTITION, SBATCH_GPUS, SBATCH_TIMELIMIT where sbatch is called.
cd {shlex.quote(str(pathlib.Path.cwd()))}
{shlex.join(command)} --only="$SLURM_ARRAY_TASK_ID" &
run=$! again=
trap 'again=1; kill -TERM "$run"' USR1
wait "$run"
while kill -0 "$run" 2>/dev/null; do wait "$run"; done # a signal ends a wait
wait "$run"
code=$?
((code == {AGAIN})) && again=1 # its watchdog has ended the run
if [[ $again ]] && ((SLURM_RESTART_COUNT < 100)); then
  # By this name: SLURM_JOB_ID of one of the tasks is that of the whole array.
  scontrol requeue "$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
"""


def _config_flags(overrides: Overrides) -> list[str]:
  return [f'--config.{key}={value}' for key, value in overrides.items()]


def main(argv: Sequence[str]) -> None:
  """Checks the flags and the plan; lists, submits or runs it."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  try:
    with command_line.errors_in_a_sentence():
      _main(flags.FLAGS)
  except KeyboardInterrupt:
    sys.exit('stopped; the same command continues the sweep')


def _main(f: flags.FlagValues) -> None:
  if f.coordinator or f.processes:
    raise Error('a point of a sweep runs in one process')
  if f.dry_run and not f.submit:
    raise Error('--dry_run belongs to --submit')
  if '://' in f.workdir:
    raise Error(f'the work folder {f.workdir} is a URL: mount it as a folder')
  workdir = pathlib.Path(f.workdir)
  given = config_flags.get_override_values(f['config'])
  sweep, seeds = load_sweep(f.sweep, f.config)
  seeds = f.seeds or seeds
  points = make_plan(sweep, f.config, given=given, seeds=seeds, workdir=workdir)
  chosen = points
  if f.only is not None:
    known = {str(point.number) for point in points}
    if unknown := [number for number in f.only or [''] if number not in known]:
      raise Error(
        f'--only={unknown[0]}: the points are numbered 0 to {len(points) - 1}'
      )
    chosen = [point for point in points if str(point.number) in f.only]
  pin(workdir, sweep, f.config, write=not f.list)
  if f.list:
    print(list_plan(points))
    return
  # The same for the job as for this sweep on another machine.
  shared = [f'--config={config_flags.get_config_filename(f["config"])}']
  if f.cpu_devices:
    shared.append(f'--cpu_devices={f.cpu_devices}')
  if f.submit:
    command = [sys.executable, '-m', 'contrastive_jax.sweep', *shared]
    command += [f'--sweep={f.sweep}', f'--workdir={workdir}']
    command += [f'--seeds={seeds}', *_config_flags(given)]
    script = workdir / 'submit.sh'
    write_whole(script, job_array(chosen, workdir, command))
    print(f'{script}: an array of {len(chosen)} tasks, one a point')
    if f.dry_run:
      return
    if shutil.which('sbatch') is None:
      raise Error(
        f'there is no sbatch on this machine: call sbatch {script} where there '
        'is one'
      )
    sys.exit(subprocess.call(['sbatch', str(script)]))
  # As Ctrl-C, so that there is one way to stop.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  failures = run_points(
    points,
    chosen,
    workdir,
    [sys.executable, '-m', 'contrastive_jax.main', *shared],
  )
  print(f'table and plots: {workdir}/results.md')
  if failures:
    print(
      f'error: {failures} of {len(chosen)} points failed: see '
      f'{workdir}/results.csv; the same command tries them again',
      file=sys.stderr,
    )
    codes = {read_exit_code(point) for point in chosen} - {None}
    sys.exit(AGAIN if codes == {AGAIN} else 1)


if __name__ == '__main__':
  # Here, so that importing this module defines no flag.
  from contrastive_jax import main as job

  flags.adopt_module_key_flags(job)
  flags.DEFINE_string(
    'sweep', None, 'Python file with get_sweep(config).', required=True
  )
  flags.DEFINE_integer(
    'seeds', None, "Runs of each setting; default: the file's.", lower_bound=1
  )
  flags.DEFINE_bool('list', False, 'Print the plan and its cost; run nothing.')
  flags.DEFINE_list('only', None, 'Run these points only: --only=3 or 3,5.')
  flags.DEFINE_enum(
    'submit', None, ['slurm'], 'Write WORKDIR/submit.sh, and call sbatch on it.'
  )
  flags.DEFINE_bool('dry_run', False, 'With --submit: do not call sbatch.')
  app.run(main, flags_parser=job.parse_flags)
