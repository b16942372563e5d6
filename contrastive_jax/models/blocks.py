"""What the blocks of ViT and ConvNeXt share: norm, perceptron, drop path."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.models import heads, microbatch

# Over channels, in float32. timm, DINO and ConvNeXt use 1e-6; PyTorch's own
# default is 1e-5. Flax's fast variance, E[x^2] - E[x]^2, has no digit left
# where |mean| >> std.
layer_norm = functools.partial(
  nn.LayerNorm, epsilon=1e-6, dtype=jnp.float32, use_fast_variance=False
)


def perceptron(
  width: int,
  dtype: jnp.dtype,
  kernel_init: jax.nn.initializers.Initializer,
  name: str,
  output_init: jax.nn.initializers.Initializer | None = None,
) -> heads.MLP:
  """Returns two layers of 4 width and width, with an exact GELU between.

  Args:
    width: of what comes in and goes out; the latter is float32.
    dtype: of the computation.
    kernel_init: of both matrices.
    name: of the module.
    output_init: of the second one, if that is another.
  """
  return heads.MLP(
    [4 * width, width],
    hidden_norm='none',
    hidden_bias=True,
    output_bias=True,
    kernel_init=kernel_init,
    output_init=output_init,
    activation=heads.gelu,
    dtype=dtype,
    name=name,
  )


def drop_path(
  module: nn.Module,
  rates: Sequence[float] | np.ndarray,
  rows: int,
  *,
  train: bool,
  axis_name: str | None,
  views: int,
) -> list[Any]:
  """Draws which residual branches are left out for which examples.

  An example draws by its place in the global batch, so that the draw depends
  neither on the number of devices nor on `microbatch`. The key has to be the
  same on all devices.

  Args:
    module: whose random stream 'dropout' gives the key, if one is needed.
    rates: [n], the probability that a branch is left out, below 1.
    rows: of this device, over all views.
    train: if not, nothing is dropped.
    axis_name: the mapped axis of the devices; None for one device.
    views: equal consecutive segments of the rows.

  Returns:
    For each branch what to multiply its output by, [rows], float32: 0, or
    1 / (1 - rate), which keeps its mean. None for all if nothing is dropped: in
    evaluation, and without a random stream.

  Reference: Huang et al. 2016 (stochastic depth, 1603.09382), section 3, with
  the factor in training rather than afterwards, as DINO's and timm's DropPath.
  """
  if not train or not np.any(rates) or module.is_initializing():
    return [None] * len(rates)
  if not module.has_rng('dropout'):  # of a teacher, which sees all
    return [None] * len(rates)
  keep = 1 - np.asarray(rates, np.float32)[:, None]
  key = module.make_rng('dropout')
  view = jnp.repeat(jnp.arange(views), rows // views)

  def draw(place, view):
    own = jax.random.fold_in(jax.random.fold_in(key, place), view)
    return jax.random.uniform(own, (len(rates),))

  places = microbatch.places(module, rows, axis_name, views)
  draws = jax.vmap(draw, out_axes=1)(places, view)
  return list((draws < keep) / keep)


def check(config: Any, **choices: Sequence[str]) -> None:
  """Checks the fields of both families: dtype, remat and drop_path.

  Args:
    config: the config's `encoder`.
    **choices: what other fields may be.

  Raises:
    Error: one of them cannot be what it is.
  """
  choices |= dict(dtype=('float32', 'bfloat16'), remat=('none', 'blocks'))
  for field, known in choices.items():
    if config[field] not in known:
      raise Error(
        f"encoder.{field} '{config[field]}' is unknown to {config.name}: "
        + ', '.join(known)
      )
  if not 0 <= config.drop_path < 1:
    raise Error(
      f'encoder.drop_path is {config.drop_path}: it must be at least 0 and'
      ' below 1.'
    )
