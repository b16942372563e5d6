"""The contract of an encoder: what objectives get, whatever the family.

A family is a module of this folder with `ENCODERS`, the names that it knows,
and `make(config, run) -> Encoder`. Adding a family is adding a file; objectives
never name one. `package.module:function` is one outside of this package.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from contrastive_jax.config import found


class Encoder(NamedTuple):
  """An encoder that has no parameters yet.

  Attributes:
    module: maps inputs [b, ...] to features float32 [b, features]; called with
      train (whether norms take the batch's statistics), axis_name (the mapped
      axis of the devices) and views (equal consecutive segments of the batch).
      For objectives that look at places in an image also with maps=True: it
      returns features and [b, rows, columns, features], those of each place.
    features: width of the output.
    norm_group: examples in a group of batch norm, for the heads; None: the
      global batch.
    dtype: of the computation, for the heads.
    note: what was decided for the user, one line; or empty.
    patches: (rows, columns) of those that an image is cut into; the module can
      then be told which are masked, or which are visible, as `vit.ViT` says.
      None: it has none.
    render: what the module makes of a view before anything else: its pixels,
      which `microbatch` leaves to it.
  """

  module: nn.Module
  features: int
  norm_group: int | None = None
  dtype: Any = jnp.float32
  note: str = ''
  patches: tuple[int, int] | None = None
  render: Callable[[Any], Any] = lambda view: view


@functools.cache
def families() -> dict[str, str]:
  """Returns the names of all encoders, and the module of each."""
  package = __name__.rpartition('.')[0]
  folder = importlib.import_module(package).__path__
  return {
    name: module.name
    for module in pkgutil.iter_modules(folder)
    for name in getattr(
      importlib.import_module(f'{package}.{module.name}'), 'ENCODERS', ()
    )
  }


def make(config: Any, run: Any) -> Encoder:
  """Returns the encoder that a config names.

  Args:
    config: the config's `encoder`; its `name` is one of `families`, or
      `package.module:function` of a function with these arguments.
    run: sizes; `run.input_shape` is that of one example, images: (side, side,
      channels).

  Returns:
    The encoder.

  Raises:
    ValueError: there is none of that name, or its values make no sense.
  """
  if ':' in config.name:
    return found(config.name, 'encoder.name')(config, run)
  known = families()
  if config.name not in known:
    shown = [name for name in known if name[0] != '_']
    found(config.name, 'encoder.name', '', shown)
  package = __name__.rpartition('.')[0]
  family = importlib.import_module(f'{package}.{known[config.name]}')
  return family.make(config, run)
