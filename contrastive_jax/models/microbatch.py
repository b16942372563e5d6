"""The encoder on some images of a device at a time, with the exact gradient.

The loss is that of the whole batch: only the encoder, where the memory goes,
runs on `microbatch` images after another. Its activations are thrown away and
made again, part by part, when the gradient of the loss at the embeddings is
known: one more forward pass for a batch of any size (Gao et al. 2021,
2101.06983, section 3.2). Heads and loss see the whole batch and are what they
were, so every objective can do it, with queues, centers and prototypes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax.config import Error
from contrastive_jax.losses.gather import first_row
from contrastive_jax.models.encoders import Encoder

# A collection of Flax variables: see `places`.
_PLACES = 'places'
# Options of an encoder that have a row an image, as its inputs have.
_BY_ROW = ('masked', 'visible')


def in_parts(
  encoder: Encoder,
  view: int,
  images: int,
  run: Any,
  devices: int,
  render: Callable[[Any], Any],
  examples: Any,
) -> Encoder:
  """Returns the encoder, running on some images of a device at a time.

  Args:
    encoder: of whole batches.
    view: its number among the examples.
    images: of a device at a time; 0: all, and the encoder stays as it is.
    run: `batch_size` is used.
    devices: that share the batch.
    render: makes what the encoder takes of a view's rows, on the device; it
      runs on the parts as well.
    examples: of each view what the encoder takes, of one row.

  Returns:
    The encoder; its module takes what `render` takes in training, and what the
    encoder takes otherwise.

  Raises:
    Error: the images do not divide a device's share of the batch, or the
      encoder's batch norm ties them to the rest of it.
  """
  if not images:
    return encoder
  share = run.batch_size // devices
  if share % images:
    raise Error(
      f'microbatch is {images}: it has to divide the {share} images of a '
      f'device (batch_size {run.batch_size}, {devices} devices)'
    )
  variables = jax.eval_shape(
    lambda: encoder.module.init(jax.random.key(0), examples[view], train=False)
  )
  group = encoder.norm_group
  if 'batch_stats' in variables and (group is None or images % group):
    now = 'the global batch' if group is None else f'groups of {group} images'
    raise Error(
      f'microbatch is {images}, and the encoder has batch norm over {now}: a '
      f"part has to hold whole groups, as with encoder.norm='ghost:{images}'"
    )
  return encoder._replace(
    module=_InParts(encoder.module, images, render), render=render
  )


def places(
  module: nn.Module, rows: int, axis_name: str | None, views: int
) -> jax.Array:
  """Returns where the rows of an encoder's input are in the global batch.

  A module that draws for each example draws by this, so that neither the number
  of devices nor `microbatch` changes the draw.

  Args:
    module: the outermost one of the encoder.
    rows: of this call on this device, over all views.
    axis_name: the mapped axis of the devices; None for one device.
    views: equal consecutive segments of the rows.

  Returns:
    int32 [rows], of each row its example's place in the batch, the same in all
    views.
  """
  if module.has_variable(_PLACES, 'first'):
    first = module.get_variable(_PLACES, 'first')
  else:
    first = first_row(rows // views, axis_name)
  return jnp.tile(first + jnp.arange(rows // views), views)


@dataclasses.dataclass(frozen=True)
class _InParts:
  """Stands for a module: what objectives call of it is `init` and `apply`."""

  module: nn.Module
  images: int
  render: Callable[[Any], Any]

  def init(self, *args: Any, **options: Any) -> Any:
    return self.module.init(*args, **options)

  def apply(
    self,
    variables: Mapping[str, Any],
    inputs: Any,
    *,
    train: bool,
    axis_name: str | None = None,
    views: int = 1,
    **options: Any,
  ) -> Any:
    """Runs the parts one after another.

    Returns:
      What the module's own apply returns. Running statistics are the mean over
      the parts' own: they move by a share of each batch's, so that this is what
      all parts together make of them.
    """
    mode: Any = dict(options, train=train, axis_name=axis_name, views=views)
    if not train:  # frozen: the inputs are not rendered here
      return self.module.apply(variables, inputs, **mode)
    by_row = {
      name: mode.pop(name) for name in _BY_ROW if mode.get(name) is not None
    }
    rows = len(jax.tree.leaves(inputs)[0]) // views
    count = rows // self.images
    first = first_row(rows, axis_name) + self.images * jnp.arange(count)

    @jax.checkpoint
    def run_part(variables, part, by_row, first):
      variables = {**variables, _PLACES: {'first': first}}
      return self.module.apply(variables, self.render(part), **by_row, **mode)

    def to_parts(x):
      """[views * rows, ...] to [parts, views * images, ...]."""
      x = x.reshape(views, count, self.images, *x.shape[1:])
      return jnp.moveaxis(x, 1, 0).reshape(count, -1, *x.shape[3:])

    def to_rows(x):
      """[parts, views * images, ...] to [views * rows, ...]."""
      x = x.reshape(count, views, self.images, *x.shape[2:])
      return jnp.moveaxis(x, 0, 1).reshape(views * rows, *x.shape[3:])

    outputs, updated = jax.lax.map(
      lambda part: run_part(variables, *part),
      (*jax.tree.map(to_parts, (inputs, by_row)), first),
    )
    updated = jax.tree.map(lambda x: x.mean(0), updated)
    return jax.tree.map(to_rows, outputs), updated
