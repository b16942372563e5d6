"""Runs and sweeps on a real Slurm: ended by it in every way, and continued.

  python -m experiments.torture.slurm [--only=requeue,sweep] [--folder=FOLDER]

Starts a Slurm of one node (`one_node.py`: root, apt-get install slurm-wlm
munge). Runs of two processes are submitted by experiments/train.sbatch. What a
run has written at its end has to be that of one left alone, to the bit.
"""

import json
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import time

from absl import app, flags

from experiments.torture import one_node
from experiments.torture.small_run import COMMAND, found

_ONLY = flags.DEFINE_list('only', [], 'Of the cases; none: all.')
_FOLDER = flags.DEFINE_string('folder', None, 'New, kept; none: a temporary.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the moments during the start.')
_ENDLESS = '--config.steps=1000000'
_SWEEP = """\
from contrastive_jax.sweeping import axis
def get_sweep(config):
  return axis('objective.temperature', (0.2, 0.5))
"""
# A process that stands still, once: the other waits for it.
_HUNG = """\
import os, pathlib, time
from contrastive_jax.training import watchdog
from tests.tiny import get_config

if not hasattr(watchdog.Watchdog, 'move'):  # a config is read more than once
  watchdog.Watchdog.move = watchdog.Watchdog.finished
mark = pathlib.Path(__file__).with_suffix('.hung')

def stand_still(self, step):
  self.move(step)
  if step == 12 and os.environ['SLURM_PROCID'] == '1' and not mark.exists():
    mark.touch()
    time.sleep(10_000)

watchdog.Watchdog.finished = stand_still
"""


class Runs(one_node.Cluster):
  """What is submitted, and what it has written, by name."""

  def train(
    self,
    name: str,
    *flags: str,
    options: tuple = (),
    config: str = COMMAND[2],
  ) -> str:
    """Submits the script that users have; returns the job's number."""
    return self.call(
      'sbatch',
      '--parsable',
      '--ntasks=2',
      f'--output={self.log_path(name)}',
      *options,
      'experiments/train.sbatch',
      str(self.folder / name),
      config,
      *COMMAND[3:],
      '--cpu_devices=1',
      *flags,
    ).strip()

  def log_path(self, name: str) -> pathlib.Path:
    """Returns the path of what a job prints."""
    return self.folder / f'{name}.log'

  def log(self, name: str) -> str:
    """Returns what a job has printed."""
    path = self.log_path(name)
    return path.read_text(errors='replace') if path.exists() else ''

  def training(self, job: str, name: str) -> None:
    """Waits until a job is in its loop."""
    path = self.folder / name / 'metrics.jsonl'

    def there() -> bool:
      if self.field(job, 'JobState') not in ('PENDING', 'RUNNING'):
        raise RuntimeError(f'{name} ends early:\n{self.log(name)[-3000:]}')
      return path.exists() and bool(path.read_text())

    self.until(f'{name} trains', there)

  def saved(self, name: str) -> bool:
    """Whether both processes have said a step, and its checkpoint was there."""
    log = self.log(name)
    said = re.findall(r'stopped by SIGTERM at step ([\d,]+)', log)
    if len(said) != 2 or said[0] != said[1]:
      return False
    path = self.folder / name / 'checkpoints' / said[0].replace(',', '')
    # What has been continued may have deleted it since.
    return path.exists() or f'from the checkpoint of step {said[0]}\n' in log

  def same(self, name: str) -> str:
    """Returns whether a run has ended as the one that was left alone."""
    if not (self.folder / name / 'summary.json').exists():
      return 'NOT FINISHED'
    equal = found(self.folder / name) == found(self.folder / 'alone')
    return 'the same to the bit' if equal else 'DIFFERS'


def _alone(c: Runs) -> tuple[bool, str]:
  """Under srun -n 2 --coordinator=auto, to the end."""
  state = c.ended(c.train('alone'))
  done = (c.folder / 'alone' / 'summary.json').exists()
  return state == 'COMPLETED 0:0' and done, state


def _signal(c: Runs) -> tuple[bool, str]:
  """Ended by scancel --signal=TERM; the script requeues it."""
  job = c.train('signal')
  c.training(job, 'signal')
  c.call('scancel', '--signal=TERM', job)
  c.requeued(job)
  state, saved, same = c.ended(job), c.saved('signal'), c.same('signal')
  return saved and state == 'COMPLETED 0:0' and same[:3] == 'the', (
    f'checkpoint: {saved}, requeued, {state}, {same}'
  )


def _cancel(c: Runs) -> tuple[bool, str]:
  """Ended by scancel; submitted again."""
  job = c.train('cancel')
  c.training(job, 'cancel')
  c.call('scancel', job)
  before, saved = c.ended(job), c.saved('cancel')
  restarts = c.field(job, 'Restarts')
  after = c.ended(c.train('cancel'))
  same = c.same('cancel')
  fine = saved and restarts == '0' and before.startswith('CANCELLED')
  return fine and after == 'COMPLETED 0:0' and same[:3] == 'the', (
    f'{before}, checkpoint: {saved}; again: {after}, {same}'
  )


def _requeue(c: Runs) -> tuple[bool, str]:
  """Ended by scontrol requeue."""
  job = c.train('requeue')
  c.training(job, 'requeue')
  c.call('scontrol', 'requeue', job)
  state, saved, same = c.ended(job), c.saved('requeue'), c.same('requeue')
  once = c.field(job, 'Restarts') == '1'
  return saved and once and state == 'COMPLETED 0:0' and same[:3] == 'the', (
    f'checkpoint: {saved}, {state}, {same}'
  )


def _preemption(c: Runs) -> tuple[bool, str]:
  """A job of a partition of higher priority takes its place."""
  job = c.train('preempted')
  c.training(job, 'preempted')
  other = c.call(
    'sbatch', '--parsable', '--partition=urgent', '--ntasks=2',
    '--output=/dev/null', '--wrap=sleep 5',
  ).strip()  # fmt: skip
  c.ended(other)
  state, saved, same = c.ended(job), c.saved('preempted'), c.same('preempted')
  restarts = c.field(job, 'Restarts')
  fine = saved and restarts == '1' and state == 'COMPLETED 0:0'
  return fine and same[:3] == 'the', (
    f'checkpoint: {saved}, restarts {restarts}, {state}, {same}'
  )


def _limit(c: Runs) -> tuple[bool, str]:
  """A signal ahead of the time limit: --time=3 --signal=TERM@60."""
  job = c.train('limit', _ENDLESS, options=('--time=3', '--signal=TERM@60'))
  c.until('continued', lambda: 'continuing from' in c.log('limit'))
  saved = c.saved('limit')
  c.call('scancel', job)
  c.ended(job)
  return saved, f'checkpoint: {saved}, requeued and continued'


def _no_warning(c: Runs) -> tuple[bool, str]:
  """The time limit itself: --time=1, no signal ahead."""
  job = c.train('no_warning', _ENDLESS, options=('--time=1', '--signal=TERM@0'))
  state = c.ended(job)
  saved = c.saved('no_warning')
  return saved, f'checkpoint: {saved}, {state}'


def _start(c: Runs) -> tuple[bool, str]:
  """SIGTERM at four moments between the start of Python and the first step."""
  rng, seconds, said, fine = random.Random(_SEED.value), [], [], True
  for number in range(4):
    name = f'start_{number}'
    # So many seconds; the last while the first step is compiled.
    wait = [1.5, rng.uniform(2, 4), rng.uniform(4, 8)]
    # What is cached would compile in no time.
    width = () if number < len(wait) else ('--config.encoder.width=16',)
    job = c.train(name, *width)
    if number < len(wait):
      c.until('runs', lambda job=job: c.field(job, 'JobState') == 'RUNNING')
      time.sleep(wait[number])
    else:
      c.until('compiles', lambda name=name: 'compiling' in c.log(name))
      time.sleep(1)
    c.call('scancel', '--signal=TERM', job)
    seconds.append(c.requeued(job))
    c.call('scancel', job)
    c.ended(job)
    answers = c.log(name).count('all there is to save is saved')
    # Python itself was perhaps not there yet.
    fine = fine and (answers == 2 or not number and 'Terminated' in c.log(name))
    said.append(f'{seconds[-1]:.0f} s by {answers}')
  return fine and max(seconds) < 15, f'answered within {", ".join(said)}'


def _watchdog(c: Runs) -> tuple[bool, str]:
  """One process stands still, watchdog_minutes is 0.3."""
  path = c.folder / 'hung.py'
  path.write_text(_HUNG)
  job = c.train(
    'watchdog', '--config.watchdog_minutes=0.3', config=f'--config={path}'
  )
  c.requeued(job)
  log = c.log('watchdog')
  said = re.findall(r'Process (\d) stands after step (\d+)', log)
  stacks = log.count('Current thread') + log.count('in stand_still')
  state, same = c.ended(job), c.same('watchdog')
  # The other may have got one step further.
  fine = sorted(said) in ([('0', x), ('1', '12')] for x in ('12', '13'))
  fine = fine and stacks == 3
  return fine and state == 'COMPLETED 0:0' and same[:3] == 'the', (
    f'processes and steps {said}, {stacks - 1} stacks, {state}, {same}'
  )


def _sweep(c: Runs) -> tuple[bool, str]:
  """--submit=slurm; one task nears its limit, of one the run is killed."""
  path, workdir = c.folder / 'sweep.py', c.folder / 'sweep'
  path.write_text(_SWEEP)
  command = [
    sys.executable, '-m', 'contrastive_jax.sweep', f'--sweep={path}',
    f'--workdir={workdir}', *COMMAND[2:], '--cpu_devices=1', '--submit=slurm',
  ]  # fmt: skip

  def submit() -> str:
    return re.findall(r'job (\d+)', c.call(*command))[0]

  job = submit()
  near, killed = (
    workdir / 'points' / f'objective.temperature={x},seed=0' for x in (0.2, 0.5)
  )
  c.until('point 0 trains', (near / 'metrics.jsonl').exists)
  c.call('scancel', '--signal=USR1', '--batch', f'{job}_0')  # as at the limit
  c.until('point 1 trains', (killed / 'metrics.jsonl').exists)
  # As the kernel does where memory is short; scancel --signal=KILL is scancel.
  number = re.findall(r'process (\d+)', (killed / 'run.lock').read_text())[0]
  os.kill(int(number), signal.SIGKILL)
  c.requeued(f'{job}_0')
  states = [c.ended(f'{job}_{i}').split()[0] for i in range(2)]
  missing = not (killed / 'summary.json').exists()
  job = submit()
  again = [c.ended(f'{job}_{i}').split()[0] for i in range(2)]
  logs = [
    'step 60/60' in path.read_text() for path in workdir.glob('points/*/log')
  ]
  table = (workdir / 'results.csv').read_text().splitlines()
  summary = json.loads((killed / 'summary.json').read_text())
  continued = 'continuing from' in (near / 'log').read_text()
  fine = missing and states == ['COMPLETED', 'FAILED'] and len(table) == 3
  fine = fine and continued and summary['step'] == 60
  fine = fine and again == 2 * ['COMPLETED'] and logs == 2 * [True]
  return fine, (
    f'requeued and continued: {continued}; {", ".join(states)}; submitted '
    f'again: {", ".join(again)}, {sum(logs)} logs, {len(table) - 1} rows'
  )


_CASES = {
  'alone': _alone,
  'signal': _signal,
  'cancel': _cancel,
  'requeue': _requeue,
  'preemption': _preemption,
  'limit': _limit,
  'no_warning': _no_warning,
  'start': _start,
  'watchdog': _watchdog,
  'sweep': _sweep,
}


def main(argv: list[str]) -> None:
  """Prints a line a case, and fails if one is not as it has to be."""
  del argv
  # So that the daemons are ended, too.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  # A folder that others can enter: munged and slurmd ask for it.
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(_FOLDER.value or temporary)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    wrong = 0
    with one_node.slurm(folder / 'slurm') as environment:
      cluster = Runs(folder, environment)
      for name, case in _CASES.items():
        if name not in ('alone', *(_ONLY.value or _CASES)):
          continue
        began = time.monotonic()
        try:
          fine, said = case(cluster)
        except RuntimeError as error:
          fine, said = False, str(error)
          cluster.call('scancel', '--user=root')
        wrong += not fine
        print(
          f'{"ok" if fine else "WRONG":<6}{name}: {case.__doc__} {said} '
          f'({time.monotonic() - began:.0f} s)',
          flush=True,
        )
  print(f'{wrong} are not as they have to be')
  sys.exit(int(wrong > 0))


if __name__ == '__main__':
  app.run(main)
