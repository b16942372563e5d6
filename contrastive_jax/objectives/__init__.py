"""Objectives, one module each, found by name: `config.objective.name`.

A module has `FIELDS`, the names of its part of the config, and one function,
`make(config, run) -> Objective`. Adding an objective is adding a file; nothing
here or in the loop knows their names.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from contrastive_jax.config import Config


class Run(NamedTuple):
  """What an objective may want to know of the run around it."""

  batch_size: int  # global
  num_examples: int
  num_classes: int | None  # None: no labels
  channels: int
  image_size: int
  steps_per_epoch: int
  total_steps: int


class Objective(NamedTuple):
  """Pure functions; `batch` is one replica's, with leaves of b rows.

  Attributes:
    init: (rng, batch) -> (params, model_state). Trained parameters, and
      everything else that lives.
    loss: (params, model_state, batch, *, rng, step, axis_name) -> (loss,
      (model_state, metrics, embeddings)). This replica's loss: its mean over
      the replicas is the loss of the whole batch. The model_state is the same
      on every replica (shard_map refuses another), so nothing in it comes from
      params, whose moving averages are made in after_update. metrics are
      scalars, averaged over the replicas by the step. embeddings, a tuple of
      [b, d] a view (not local crops), are what a collapse would show in.
    after_update: (params, model_state, step) -> model_state. Moving averages
      and the like, after the optimizer's update number `step`, from 0.
    chance: batch_size -> the loss of an encoder that knows nothing.
    features: (params, model_state, images) -> [b, d]. The frozen encoder.
    causes: a verdict of `diagnostics.health` other than 'ok' -> what it is
      likely to come from, for this objective; one line.
    grace_epochs: until then a healthy run may be at chance.
    evaluated: (params, model_state) -> what `features` is given of them: other
      than themselves where not the trained encoder counts but its target.

  The batch of `init` and `loss` is a dict: 'views', a tuple of float32
  [b, side, side, channels], local crops last; 'label' int32 [b], -1 where there
  is none; 'id' int32 [b], the examples' numbers in the training set.
  """

  init: Callable[..., tuple[Any, Any]]
  loss: Callable[
    ...,
    tuple[jax.Array, tuple[Any, dict[str, jax.Array], tuple[jax.Array, ...]]],
  ]
  after_update: Callable[..., Any]
  chance: Callable[[int], float]
  features: Callable[..., jax.Array]
  causes: dict[str, str]
  grace_epochs: float = 0.0
  evaluated: Callable[..., tuple[Any, Any]] = lambda params, model_state: (
    params,
    model_state,
  )


def names() -> list[str]:
  """Returns the names of all objectives there are."""
  return [module.name for module in pkgutil.iter_modules(__path__)]


def make(config: Config, run: Run) -> Objective:
  """Returns the objective that `config.objective.name` names.

  Args:
    config: the whole config.
    run: the sizes of this run.

  Returns:
    The objective.

  Raises:
    ValueError: there is no objective of that name, or it has other fields.
  """
  name = config.objective.name
  if name not in names():
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f'did you mean {near[0]!r}?' if near else f'known: {names()}'
    raise ValueError(f'there is no objective {name!r}; {hint}')
  module = importlib.import_module(f'{__name__}.{name}')
  found = set(config.objective) - {'name'}
  for field in sorted(found - set(module.FIELDS)):
    near = difflib.get_close_matches(field, module.FIELDS, n=1, cutoff=0.0)
    raise ValueError(
      f'unknown config key objective.{field}; did you mean objective.{near[0]}?'
    )
  if missing := sorted(set(module.FIELDS) - found):
    raise ValueError(f'{name} needs objective.{missing[0]} in the config')
  return module.make(config, run)
