"""Objectives, one module each, found by name: `config.objective.name`.

A module has `Fields`, a frozen dataclass of its part of the config with
defaults and ranges (see `field`), `CAUSES` (of `Objective.causes`), and
`make(fields, run, encoder) -> Objective`, which raises ValueError where the
fields and the run do not fit together; with `TEXT_TOWER = True` it is given the
encoder of text as well, or None. Adding an objective is adding a file;
nothing here or in the loop knows their names. `package.module:function` is one
outside of this package.
"""

import dataclasses
import functools
import importlib
import pkgutil
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from contrastive_jax.config import Config, Error, found
from contrastive_jax.models import branches, encoders
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives._fields import field, read, share

__all__ = ['Objective', 'Run', 'field', 'share']


class Run(NamedTuple):
  """What an objective or an encoder may want to know of the run around it."""

  batch_size: int  # global
  num_examples: int
  num_classes: int | None  # None: no labels
  # Of a global view: (side, side, channels), or (tokens,).
  input_shape: tuple[int, ...]
  global_views: int
  local_crops: int
  steps_per_epoch: int
  total_steps: int
  seed: int = 0
  vocabulary: int = 0  # numbers that a token may be; 0: there are no tokens


def _of_the_encoder(params, model_state, inputs):
  """Stands for `frozen_features` of the encoder, which `make` puts here."""
  raise AssertionError('an objective is made by objectives.make')


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
    chance: batch_size -> the loss of an encoder that knows nothing. Where it
      depends on the images, the metrics have their own, 'chance_loss'.
    features: (params, model_state, inputs) -> [b, d]. The frozen encoder; if
      not given, `make` puts that of params['encoder'] here.
    causes: a verdict of `diagnostics.health` other than 'ok' -> what it is
      likely to come from, for this objective; one line.
    grace_epochs: until then a healthy run may be at chance.
    quiet_steps: until then its embeddings may be nearly alike.
    evaluated: (params, model_state) -> what `features` is given of them: other
      than themselves where not the trained encoder counts but its target.
    notes: what is worth saying of these fields with this run, one line each.
    modules: the encoder and the heads behind it, in order, by their names in
      the parameters: what other layers than the encoder are embedded by.
    text_modules: likewise of the text tower, if there is one; the last of
      either are in one space.
    project: params -> params, after each update: what holds them in bounds.

  The batch of `init` and `loss` is a dict: 'views', a tuple of what the encoder
  takes, any pytree with leaves [b, ...] (of images: float32 [b, side, side,
  channels]), local crops last; 'label' int32 [b], -1 where there is none; 'id'
  int32 [b], the examples' numbers in the training set; 'epoch' int32 [b]. What
  is drawn for each example is drawn from `keys.example` of these. Of images
  also 'places', see `Modality.places`.
  """

  init: Callable[..., tuple[Any, Any]]
  loss: Callable[
    ...,
    tuple[jax.Array, tuple[Any, dict[str, jax.Array], tuple[jax.Array, ...]]],
  ]
  chance: Callable[[int], float]
  causes: dict[str, str]
  after_update: Callable[..., Any] = lambda params, model_state, step: (
    model_state
  )
  features: Callable[..., jax.Array] = _of_the_encoder
  grace_epochs: float = 0.0
  quiet_steps: int = 0
  evaluated: Callable[..., tuple[Any, Any]] = lambda params, model_state: (
    params,
    model_state,
  )
  notes: tuple[str, ...] = ()
  modules: Mapping[str, Any] = types.MappingProxyType({})
  text_modules: Mapping[str, Any] = types.MappingProxyType({})
  project: Callable[[Any], Any] = lambda params: params

  def common_space(self) -> tuple[str, str]:
    """Returns the layers of images and of texts whose outputs are in one space.

    Only of an objective with a tower of text.
    """
    *_, image = self.modules
    *_, text = self.text_modules
    return image, text

  def layer(self, name: str) -> Callable[..., jax.Array]:
    """Returns (params, model_state, inputs) -> [b, d] of a frozen module.

    Args:
      name: 'encoder', or one of `modules` or `text_modules`.
    """
    if name == 'encoder':
      return self.features
    if name in self.text_modules:
      return functools.partial(branches.frozen_output, self.text_modules, name)
    return functools.partial(branches.frozen_output, self.modules, name)


def names() -> list[str]:
  """Returns the names of all objectives there are."""
  modules = pkgutil.iter_modules(__path__)
  return [module.name for module in modules if module.name[0] != '_']


def default_fields(name: str) -> dict[str, Any]:
  """Returns the fields of an objective, with their defaults.

  Args:
    name: of the objective, as in `config.objective.name`.

  Raises:
    ValueError: there is no objective of that name.
  """
  return dataclasses.asdict(_find(name)[0]())


def complete(config: Config) -> None:
  """Adds to `config.objective`, in place, the fields that it does not give.

  Args:
    config: a whole config.

  Raises:
    ValueError: there is no objective of that name, it has no such field, or a
      value is out of range.
  """
  fields, _ = _fields_and_make(config)
  config.objective.update(dataclasses.asdict(fields))


def make(
  config: Config,
  run: Run,
  in_parts: Callable[..., Encoder] = lambda encoder, view: encoder,
) -> Objective:
  """Returns the objective that `config.objective.name` names.

  Args:
    config: the whole config; `objective`, `encoder` and `text_encoder` are
      used.
    run: the sizes of this run.
    in_parts: what `microbatch` makes of an encoder, and of the number of the
      view that it takes.

  Returns:
    The objective.

  Raises:
    ValueError: there is no objective or no encoder of that name, or the values
      make no sense.
  """
  fields, make_objective = _fields_and_make(config)
  encoder = in_parts(encoders.make(config.encoder, run), 0)
  towers: list[Encoder | None] = [encoder]
  if getattr(_module(make_objective), 'TEXT_TOWER', False):
    text = None
    if config.text_encoder.name:
      sizes = run._replace(input_shape=(config.text.max_length,))
      text = in_parts(encoders.make(config.text_encoder, sizes), 1)
    towers.append(text)
  elif config.text_encoder.name:
    raise Error(
      f'text_encoder.name is {config.text_encoder.name}, and '
      f'{config.objective.name} has no tower of text'
    )
  try:
    objective = make_objective(fields, run, *towers)
  except ValueError as error:
    if ':' in config.objective.name:
      raise  # the author of an objective outside wants the traceback
    # Of losses too, which know nothing of configs: a queue's size, for one.
    raise Error(str(error)) from error
  if objective.features is _of_the_encoder:
    objective = objective._replace(
      features=functools.partial(branches.frozen_features, encoder.module)
    )
  return objective


def check_views(
  name: str, run: Run, views: int, *, local_crops: bool = False
) -> None:
  """Refuses a run whose number of views is not the objective's.

  Args:
    name: of the objective, as a reader knows it.
    run: the sizes.
    views: how many global views it takes.
    local_crops: whether it takes any number of smaller ones.

  Raises:
    ValueError: one sentence.
  """
  if run.global_views == views and (local_crops or not run.local_crops):
    return
  plural = '' if views == 1 else 's'
  raise Error(
    f'{name} takes {views} global view{plural}'
    + (' and any local crops' if local_crops else ' and no local crops')
    + f'; augment.blur is for {run.global_views} views, augment.local_crops is '
    f'{run.local_crops}'
  )


def check_labels(name: str, run: Run) -> int:
  """Returns the number of classes.

  Args:
    name: of the objective.
    run: the sizes.

  Raises:
    ValueError: the data has no labels.
  """
  if run.num_classes is None:
    raise Error(f'{name} needs labels; the data has none, or all of one class')
  return run.num_classes


def queue_notes(size: int, rows: int, run: Run, meets: str) -> tuple[str, ...]:
  """Returns what is odd about a queue of past embeddings in a run, if it is.

  Args:
    size: of the queue, embeddings.
    rows: that a step adds.
    run: the sizes.
    meets: what an image's own past embeddings are to it there.
  """
  notes = []
  steps = size // rows
  if (epochs := steps / run.steps_per_epoch) > 1:
    fitting = rows * run.steps_per_epoch
    notes.append(
      f'the queue of {size:,} embeddings holds {epochs:.3g} epochs of the '
      f'{run.num_examples:,} images: {meets}; '
      f'objective.queue_size={fitting} holds one epoch'
    )
  if steps > run.total_steps:
    notes.append(
      f'the queue of {size:,} embeddings takes {steps:,} steps to fill, and '
      f'the run has {run.total_steps:,}'
    )
  return tuple(notes)


@dataclasses.dataclass(frozen=True)
class _NoFields:
  """Of an objective that has none."""


def _find(name: str) -> tuple[type, Callable[..., Objective]]:
  if ':' in name:
    function = found(name, 'objective.name')
    return getattr(_module(function), 'Fields', _NoFields), function
  module = found(name, 'objective.name', __name__, names())
  return module.Fields, module.make


def _module(function: Callable[..., Any]) -> Any:
  return importlib.import_module(function.__module__)


def _fields_and_make(config: Config) -> tuple[Any, Callable[..., Objective]]:
  cls, make_objective = _find(config.objective.name)
  given = {k: v for k, v in config.objective.items() if k != 'name'}
  if given.keys() - {f.name for f in dataclasses.fields(cls)}:
    for name in names():
      if default_fields(name).keys() == given.keys():
        raise Error(
          f'objective.name is {config.objective.name}, and the fields are '
          f'those of {name}: an objective is chosen by its config, as '
          '--config=byol_small:SOURCE, which has its optimizer and views, too'
        )
  return read(cls, given, 'objective.'), make_objective
