"""Reports to Weights & Biases or MLflow, through their own libraries.

Which server, project and mode is theirs to say (WANDB_PROJECT, WANDB_MODE;
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME). A run that is continued goes on
under its old number, which stands in WORKDIR/tracking.json.
"""

import importlib.util
import json
import os
import pathlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from contrastive_jax.config import Error, flat
from contrastive_jax.training import progress, sidefiles

# Of `log.to`: the module that has to be there.
PACKAGES = {'wandb': 'wandb', 'mlflow': 'mlflow'}
_NAME = 'contrastive_jax'  # of the project, unless theirs say another


class Logger(NamedTuple):
  """Where reports go, too.

  Attributes:
    write: (step, scalars by name) -> None.
    close: waits until all is sent.
  """

  write: Callable[[int, Mapping[str, float]], None]
  close: Callable[[], None]


def check(to: str) -> None:
  """Refuses a logger whose package is not installed.

  Args:
    to: the config's `log.to`.

  Raises:
    Error: one sentence.
  """
  package = PACKAGES.get(to)
  if package and importlib.util.find_spec(package) is None:
    raise Error(
      f"log.to={to} needs its package: pip install 'contrastive_jax[{to}]'"
    )


def opened(config: Any, workdir: pathlib.Path) -> Logger | None:
  """Opens the logger of a run, by its main process.

  Args:
    config: the whole config.
    workdir: of the run.

  Returns:
    The logger, which never ends a run: what it cannot do is said once. None if
    `log.to` is 'none'.

  Raises:
    Error: it cannot be opened, or tracking.json is damaged.
  """
  to = config.log.to
  if to == 'none':
    return None
  path = workdir / 'tracking.json'
  known = sidefiles.read_object(path).get(to) if path.exists() else None
  fields = flat(json.loads(config.to_json()))
  try:
    number, logger = _OPEN[to](fields, workdir, known)
  except Exception as error:
    raise Error(f'log.to={to} cannot be opened ({error})') from error
  sidefiles.atomic_write(path, json.dumps({to: number}) + '\n')
  return _patient(to, logger)


def _patient(to: str, logger: Logger) -> Logger:
  """The same, whose failures are said once and end nothing."""
  said = False

  def attempt(call: Callable[..., None], *arguments: Any) -> None:
    nonlocal said
    try:
      call(*arguments)
    except Exception as error:
      if not said:
        progress.say(f'{to} does not take a report ({error}): training goes on')
      said = True

  return Logger(
    lambda step, scalars: attempt(logger.write, step, scalars),
    lambda: attempt(logger.close),
  )


def _wandb(
  fields: Mapping[str, Any], workdir: pathlib.Path, known: str | None
) -> tuple[str, Logger]:
  import wandb

  number = known or secrets.token_hex(4)
  run = wandb.init(
    project=os.environ.get('WANDB_PROJECT', _NAME),
    name=workdir.resolve().name,
    dir=workdir,
    id=number,
    resume='allow',
    config=dict(fields),
  )
  return number, Logger(
    lambda step, scalars: run.log(dict(scalars), step=step), run.finish
  )


def _mlflow(
  fields: Mapping[str, Any], workdir: pathlib.Path, known: str | None
) -> tuple[str, Logger]:
  if 'MLFLOW_TRACKING_URI' not in os.environ:
    # Without a server: files, which MLflow 3 takes only if it is told to.
    os.environ['MLFLOW_ALLOW_FILE_STORE'] = 'true'
    os.environ['MLFLOW_TRACKING_URI'] = (workdir.resolve() / 'mlruns').as_uri()
  import mlflow

  client = mlflow.MlflowClient(os.environ['MLFLOW_TRACKING_URI'])
  if known is None:
    name = os.environ.get('MLFLOW_EXPERIMENT_NAME', _NAME)
    experiment = client.get_experiment_by_name(name)
    number = (
      experiment.experiment_id if experiment else client.create_experiment(name)
    )
    run = client.create_run(number, run_name=workdir.resolve().name)
    known = run.info.run_id
    for key, value in fields.items():
      client.log_param(known, key, value)

  def write(step: int, scalars: Mapping[str, float]) -> None:
    for key, value in scalars.items():
      client.log_metric(known, key, value, step=step)

  return known, Logger(write, lambda: client.set_terminated(known))


_OPEN = {'wandb': _wandb, 'mlflow': _mlflow}
