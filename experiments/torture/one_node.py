"""A Slurm of one node on loopback: its three daemons, in a folder, for a while.

Of Debian's packages slurm-wlm and munge, as root (slurmd wants to be).
"""

import contextlib
import os
import pathlib
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

_OVER = ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL')
_SECONDS = 600.0  # that anything may take
# A requeued job waits until its credentials expire: 2 minutes, if not told.
_CONF = """\
ClusterName=one
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=86400
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=all Nodes=localhost Default=YES PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=localhost PriorityTier=2
"""


@contextlib.contextmanager
def slurm(folder: pathlib.Path) -> Iterator[dict[str, str]]:
  """Starts the daemons, and ends them.

  Two processes fit on the node. A job in the partition `urgent` preempts those
  of `all`, which are told 30 s before, and requeued.

  Args:
    folder: new, for all that they write.

  Yields:
    What the environment of a command such as sbatch has to have.

  Raises:
    RuntimeError: the node is not there after a minute; with the logs.
  """
  for name in ('state', 'spool'):
    (folder / name).mkdir(parents=True, mode=0o755)
  folder.chmod(0o755)  # munged refuses a socket that others cannot reach
  conf, key = folder / 'slurm.conf', folder / 'munge.key'
  controller, daemon = _free_ports(2)
  conf.write_text(
    _CONF.format(
      folder=folder,
      controller=controller,
      daemon=daemon,
      host=socket.gethostname(),
    )
  )
  key.write_bytes(secrets.token_bytes(64))
  key.chmod(0o600)
  environment = {**os.environ, 'SLURM_CONF': str(conf)}
  munge = [
    f'--{option}={folder}/munge.{end}'
    for option, end in (
      ('key-file', 'key'),
      ('socket', 'socket'),
      ('pid-file', 'pid'),
      ('seed-file', 'seed'),
      ('log-file', 'log'),
    )
  ]
  daemons = []
  try:
    for command in (
      ['munged', '--foreground', '--force', *munge],
      ['slurmctld', '-D', '-f', str(conf)],
      ['slurmd', '-D', '-f', str(conf)],
    ):
      with (folder / f'{command[0]}.out').open('w') as out:
        daemons.append(
          subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,
          )
        )
      time.sleep(1)  # each wants the one before
    for _ in range(60):
      if 'idle' in _output(['sinfo', '-h', '-o', '%T'], environment):
        break
      time.sleep(1)
    else:
      logs = sorted(folder.glob('*.out')) + sorted(folder.glob('*.log'))
      said = '\n'.join(f'{x.name}: {x.read_text()[-1000:]}' for x in logs)
      raise RuntimeError(f'Slurm does not start:\n{said}')
    yield environment
  finally:
    _output(['scancel', '--user=root'], environment)
    for _ in range(60):  # what does not end is killed after 30 s
      if not _output(['squeue', '-h'], environment):
        break
      time.sleep(1)
    for process in reversed(daemons):
      process.terminate()
    for process in reversed(daemons):
      try:
        process.wait(20)
      except subprocess.TimeoutExpired:
        process.kill()


class Cluster:
  """Submits, asks and waits; what takes too long is an error."""

  def __init__(self, folder: pathlib.Path, environment: dict[str, str]):
    self.folder = folder
    path = f'{pathlib.Path(sys.executable).parent}:{os.environ["PATH"]}'
    root = pathlib.Path(__file__).parents[2]
    self._environment = {
      **environment,
      'PATH': path,
      'PYTHONPATH': str(root),
      'JAX_PLATFORMS': 'cpu',
      # Most of the time would be compilation.
      'JAX_COMPILATION_CACHE_DIR': str(folder / 'cache'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.5',
    }

  def call(self, *command: str) -> str:
    """Returns what a command prints."""
    done = subprocess.run(
      command, env=self._environment, capture_output=True, text=True
    )
    if done.returncode:
      raise RuntimeError(f'{" ".join(command)}: {done.stdout}{done.stderr}')
    return done.stdout

  def field(self, job: str, name: str) -> str:
    """Returns a field of a job, such as JobState."""
    text = self.call('scontrol', 'show', 'job', job)
    match = re.search(rf'\b{name}=(\S+)', text)
    return match[1] if match else ''

  def until(self, what: str, true: Callable[[], bool]) -> float:
    """Waits; returns the seconds."""
    began = time.monotonic()
    while not true():
      if time.monotonic() - began > _SECONDS:
        raise RuntimeError(f'{what}: not within {_SECONDS:g} s')
      time.sleep(0.1)
    return time.monotonic() - began

  def ended(self, job: str) -> str:
    """Waits for the end of a job, requeued or not; returns its state."""
    self.until(f'job {job} ends', lambda: self.field(job, 'JobState') in _OVER)
    return f'{self.field(job, "JobState")} {self.field(job, "ExitCode")}'

  def requeued(self, job: str) -> float:
    """Waits until a job is back in the queue; returns the seconds."""

    def there() -> bool:
      if (state := self.field(job, 'JobState')) in _OVER:
        raise RuntimeError(f'job {job} is {state}, and not requeued')
      return self.field(job, 'Restarts') == '1'

    return self.until(f'job {job} is requeued', there)


def _output(command: list[str], environment: dict[str, str]) -> str:
  return subprocess.run(
    command, env=environment, capture_output=True, text=True, check=False
  ).stdout


def _free_ports(count: int) -> list[int]:
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for one in sockets:
      one.bind(('127.0.0.1', 0))
    return [one.getsockname()[1] for one in sockets]
