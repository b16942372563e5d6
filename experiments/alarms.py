"""At which step is a broken objective called so? Some, and their healthy twins.

  python -m experiments.alarms
  python -m experiments.alarms lejepa visreg

BYOL and SimSiam without stop-gradient, VICReg without its variance term, SwAV
without Sinkhorn, DINO without centering, LeJEPA and VISReg without what keeps
images apart, DINOv2 without centering and KoLeo: the first 200 steps of a long
run on digits, with two residual blocks (DINOv2: of a ViT) and 64 images a step,
a report every 20 steps. Prints a table in Markdown: the step of the first alarm
and what it says.
"""

import json
import os
import pathlib
import sys
import tempfile

from absl import logging

from contrastive_jax.commands import command_line
from contrastive_jax.config import Config
from contrastive_jax.training import build, loop
from contrastive_jax.training.checkpoint import Checkpoints
from experiments import small_configs

STEPS, EVERY = 200, 20
# What is broken, and how.
BROKEN = {
  'byol': {'objective.stop_gradient': False},
  'simsiam': {'objective.stop_gradient': False},
  'vicreg': {'objective.variance_weight': 0.0},
  'lejepa': {'objective.sigreg_weight': 0.0},
  'visreg': {'objective.regularizer_weight': 0.0},
  'dinov2': {
    'objective.center_momentum': 1.0,
    'objective.koleo_weight': 0.0,
  },
  'vicregl': {'objective.variance_weight': 0.0},
  'swav': {'objective.sinkhorn_iterations': 0},
  'dino': {'objective.center_momentum': 1.0},  # it stays at 0
}
# What the broken run and its healthy twin have in common.
SETTING = {
  # The published optimizer: Adam's steps do not let a norm's input fade.
  'simsiam': {
    'optimizer.name': 'sgd',
    'optimizer.base_learning_rate': 0.4,
    'optimizer.weight_decay': 5e-4,
  },
}


class _After(loop.Termination):
  """Stops a run at a step, as SIGTERM would."""

  def __init__(self, step: int) -> None:
    super().__init__()
    self._step = step

  def requested(self, step: int) -> bool:
    return step >= self._step


def configure(config: Config, name: str, *, broken: bool) -> Config:
  """Returns the config, changed in place, of a run that is to be judged."""
  config.update_from_flattened_dict(SETTING.get(name, {}))
  if broken:
    config.update_from_flattened_dict(BROKEN[name])
  return config


def verdicts(config: Config, workdir: pathlib.Path) -> dict[int, str]:
  """Trains for 200 steps of a schedule of 2,000.

  Args:
    config: of any objective; its budget and learning rate are changed.
    workdir: of the run.

  Returns:
    Step to verdict, of each report.
  """
  config.steps = 10 * STEPS
  config.log.every_steps = EVERY
  config.checkpoint.every_steps = 10 * STEPS
  config.optimizer.warmup_epochs = 0.0
  config.optimizer.base_learning_rate *= 2
  job = build.build(config)
  with Checkpoints(
    workdir / 'checkpoints', every_steps=10 * STEPS, keep=1, log=print
  ) as checkpoints:
    loop.train(
      job, build.init_state(job), 0, workdir, checkpoints, _After(STEPS)
    )
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  reports = map(json.loads, lines)
  return {report['step']: report['verdict'] for report in reports}


def first_alarm(found: dict[int, str]) -> str:
  """Returns the step of the first verdict but `ok`, or 'none'."""
  for step, verdict in found.items():
    if verdict != 'ok':
      return f'{verdict}, step {step}'
  return 'none'


def main(names: list[str]) -> None:
  """Prints the table, of these objectives or of all."""
  logging.set_verbosity(logging.ERROR)
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  lines = ['| broken | first alarm | as it is |', '|---|---|---|']
  for name in names or BROKEN:
    overrides, found = BROKEN[name], []
    for broken in (True, False):
      config = configure(small_configs.tiny(name), name, broken=broken)
      with tempfile.TemporaryDirectory() as folder:
        found.append(first_alarm(verdicts(config, pathlib.Path(folder))))
    field = next(iter(overrides))
    lines.append(
      f'| {name}, {field}={overrides[field]} | {found[0]} | {found[1]} |'
    )
  print('\n'.join(lines))


if __name__ == '__main__':
  main(sys.argv[1:])
