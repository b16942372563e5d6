"""An encoder and the heads behind it, run over views of the same images."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def init_branch(
  rng: jax.Array, modules: Mapping[str, nn.Module], images: jax.Array
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Makes the parameters of modules that each take the one before's output.

  Args:
    rng: one key; each module gets its own.
    modules: by name, in order: {'encoder': ..., 'projector': ...}.
    images: [b, side, side, channels] that the first module can take.

  Returns:
    params and batch_stats, each with one entry a module.
  """
  params, batch_stats = {}, {}
  x = images
  keys = jax.random.split(rng, len(modules))
  for key, (name, module) in zip(keys, modules.items(), strict=True):
    variables = module.init(key, x, train=False)
    x = module.apply(variables, x, train=False)
    params[name] = variables['params']
    batch_stats[name] = variables.get('batch_stats', {})
  return params, batch_stats


def init_fn(modules: Mapping[str, nn.Module]) -> Callable[..., Any]:
  """Returns the `init` of an objective whose state is batch statistics alone.

  Args:
    modules: as for `init_branch`.
  """

  def init(rng, batch):
    params, batch_stats = init_branch(rng, modules, batch['views'][0])
    return params, {'batch_stats': batch_stats}

  return init


def run_branch(
  modules: Mapping[str, nn.Module],
  params: Mapping[str, Any],
  batch_stats: Mapping[str, Any],
  views: Sequence[Any],
  *,
  train: bool,
  axis_name: str | None = None,
  rng: jax.Array | None = None,
) -> tuple[dict[str, tuple[jax.Array, ...]], dict[str, Any]]:
  """Runs views through an encoder and the heads behind it.

  Neighbors of one size share a pass of the encoder, and so its batch
  statistics; all views share one pass of each head. For a pass of its own for
  every view, call this once a view and hand the statistics on.

  Args:
    modules: by name, in order; the first is the encoder.
    params: of at least these modules.
    batch_stats: running statistics, likewise.
    views: what the encoder takes, with leaves [b, ...].
    train: whether the norms take the batch's statistics, and move the running
      ones.
    axis_name: the mapped axis of the devices; None for one device.
    rng: of dropout and drop path, in training; the same on every device, so
      that a module which draws for each example does so by the example's place
      in the global batch.

  Returns:
    Each module's outputs, a tuple of [b, d] a view, by the module's name; and
    batch_stats with the entries of these modules replaced.
  """
  batch_stats = dict(batch_stats)
  passes = itertools.count()

  def apply(name: str, x: jax.Array, num_views: int) -> Any:
    own = None if rng is None else jax.random.fold_in(rng, next(passes))
    y, batch_stats[name] = _apply(
      modules[name],
      params[name],
      batch_stats[name],
      x,
      own,
      train=train,
      axis_name=axis_name,
      views=num_views,
    )
    return y

  def shapes(view: Any) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(view)]

  encoder, *heads = modules
  features = []
  for _, group in itertools.groupby(views, shapes):
    same = list(group)
    together = jax.tree.map(lambda *x: jnp.concatenate(x), *same)
    features.append(apply(encoder, together, len(same)))
  x = jnp.concatenate(features)
  outputs: dict[str, Any] = {encoder: x}
  for name in heads:
    outputs[name] = x = apply(name, x, len(views))
  split = {k: tuple(jnp.split(v, len(views))) for k, v in outputs.items()}
  return split, batch_stats


def run_maps(
  encoder: nn.Module,
  params: Mapping[str, Any],
  batch_stats: Mapping[str, Any],
  views: Sequence[Any],
  *,
  train: bool,
  axis_name: str | None = None,
  rng: jax.Array | None = None,
  **options: Any,
) -> tuple[tuple[tuple[jax.Array, ...], ...], dict[str, Any]]:
  """Runs views of one size through an encoder, and keeps what it saw where.

  Args:
    encoder: the module of params['encoder'].
    params: of at least the encoder.
    batch_stats: running statistics, likewise.
    views: what the encoder takes, with leaves [b, ...] of one shape, in one
      pass.
    train: see `run_branch`, also for axis_name and rng.
    axis_name: the mapped axis of the devices; None for one device.
    rng: of dropout and drop path.
    **options: of the encoder; of images those with a row each, view by view.

  Returns:
    Features, a tuple of [b, d] a view, and maps, a tuple of [b, rows, columns,
    d]; and batch_stats with the encoder's replaced.
  """
  together = jax.tree.map(lambda *x: jnp.concatenate(x), *views)
  outputs, stats = _apply(
    encoder,
    params['encoder'],
    batch_stats['encoder'],
    together,
    rng,
    train=train,
    axis_name=axis_name,
    views=len(views),
    maps=True,
    **options,
  )
  split = tuple(tuple(jnp.split(x, len(views))) for x in outputs)
  return split, {**batch_stats, 'encoder': stats}


def _apply(module, params, batch_stats, x, rng, *, train, **options):
  """Runs a module; its running statistics move in training alone."""
  variables = {'params': params, 'batch_stats': batch_stats}
  if not train:
    return module.apply(variables, x, train=False, **options), batch_stats
  y, updated = module.apply(
    variables,
    x,
    mutable=['batch_stats'],
    rngs={} if rng is None else {'dropout': rng},
    train=True,
    **options,
  )
  return y, updated.get('batch_stats', {})


def frozen_features(
  encoder: nn.Module,
  params: Mapping[str, Any],
  model_state: Mapping[str, Any],
  images: jax.Array,
) -> jax.Array:
  """Returns what the encoder makes of images, each on its own.

  Args:
    encoder: the module of params['encoder'].
    params: of at least the encoder.
    model_state: its 'batch_stats' has the encoder's running statistics.
    images: [b, side, side, channels].

  Returns:
    [b, features].
  """
  modules = {'encoder': encoder}
  return frozen_output(modules, 'encoder', params, model_state, images)


def frozen_output(
  modules: Mapping[str, nn.Module],
  name: str,
  params: Mapping[str, Any],
  model_state: Mapping[str, Any],
  images: jax.Array,
) -> jax.Array:
  """Returns what a module makes of images, each on its own.

  Args:
    modules: by name, in order; the first is the encoder.
    name: of the one whose output it is.
    params: of at least the modules up to it.
    model_state: its 'batch_stats' has their running statistics.
    images: [b, side, side, channels].

  Returns:
    [b, d].
  """
  names = list(modules)
  upto = names[: names.index(name) + 1]
  outputs, _ = run_branch(
    {n: modules[n] for n in upto},
    params,
    model_state['batch_stats'],
    [images],
    train=False,
  )
  return outputs[name][0]
