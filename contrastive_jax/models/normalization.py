"""Batch normalization that means the same on any number of devices."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax.config import Error


def parse_norm(text: str) -> int | None:
  """Reads the config's `encoder.norm`.

  Args:
    text: 'global', or 'ghost:N' with N examples a group.

  Returns:
    The `group` of `BatchNorm`: None for 'global', N for 'ghost:N'.

  Raises:
    ValueError: for any other text.
  """
  if text == 'global':
    return None
  kind, _, size = text.partition(':')
  if kind == 'ghost' and size.isdecimal() and int(size) > 0:
    return int(size)
  raise Error(
    f"norm '{text}' is unknown: write 'global', or 'ghost:32' for groups of 32"
    ' examples.'
  )


def _devices_per_group(group: int, rows: int, axis_name: str | None) -> int:
  """Checks that groups tile the batch; how many devices share a group."""
  devices = jax.lax.axis_size(axis_name) if axis_name else 1
  if rows * devices % group:
    raise Error(
      f'ghost batch norm: {rows * devices} examples a view (over {devices}'
      f' devices) are not divisible into groups of {group}.'
    )
  if rows % group and group % rows:
    raise Error(
      f'ghost batch norm: a group of {group} examples neither divides the'
      f' {rows} examples a view on each device nor is a multiple of them.'
    )
  return max(1, group // rows)


def _moments(x: jax.Array, axis: Any) -> tuple[jax.Array, jax.Array]:
  """Mean and biased variance over `axis`, kept as axes of size 1."""
  mean = x.mean(axis, keepdims=True)
  # Two passes: E[x^2] - E[x]^2 has no digit left where |mean| >> std, and took
  # 0.98 of this time in a whole training step on CPU. The deviations sum to
  # zero, so that the variance has no derivative through the mean; to cut it
  # saves the backward pass a reduction (but second derivatives lack a term).
  deviation = x - jax.lax.stop_gradient(mean)
  return mean, jnp.square(deviation).mean(axis, keepdims=True)


class BatchNorm(nn.Module):
  """Batch normalization over the global batch, or over groups of examples.

  Statistics and normalization are float32 for any input type. The running
  statistics ('mean' and 'var' of the collection 'batch_stats') hold the biased
  variance, as TensorFlow and Flax do; PyTorch keeps the unbiased one.

  Device d holds examples [d b, (d + 1) b) of each view, and the views follow
  one another in its rows. A ghost group is `group` consecutive examples of one
  view of the global batch, so that groups never mix views and stay the same
  when the batch is spread over another number of devices.

  Attributes:
    group: Examples a group; None for statistics over the global batch.
    momentum: Of the running statistics, for the old value.
    epsilon: Added to the variance.
    use_scale: Whether to multiply by a trained scale ('scale', [C]).
    use_bias: Whether to add a trained offset ('bias', [C]).
    scale_init: Of the scale.
  """

  group: int | None = None
  momentum: float = 0.9
  epsilon: float = 1e-5
  use_scale: bool = True
  use_bias: bool = True
  scale_init: jax.nn.initializers.Initializer = nn.initializers.ones

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool,
    axis_name: str | None = None,
    views: int = 1,
  ) -> jax.Array:
    """Normalizes the last axis' channels.

    Args:
      x: [views * b, ..., C], the rows of this device.
      train: True normalizes by the batch and moves the running statistics;
        False normalizes by the running statistics.
      axis_name: The axis of the devices, mapped by shard_map or pmap; None for
        one device. Not used while initializing, which runs outside of the
        mapping.
      views: Equal consecutive segments of the batch axis. It only matters for
        groups: global statistics are over all rows.

    Returns:
      An array of the shape and type of x.

    Raises:
      ValueError: if the groups do not tile the batch.

    Reference: Ioffe and Szegedy 2015 (1502.03167); ghost groups: Hoffer et al.
    2017 (1705.08741), section 4.
    """
    features = x.shape[-1]
    running_mean = self.variable(
      'batch_stats', 'mean', jnp.zeros, (features,), jnp.float32
    )
    running_var = self.variable(
      'batch_stats', 'var', jnp.ones, (features,), jnp.float32
    )
    y = x.astype(jnp.float32)
    if not train:
      mean, var = running_mean.value, running_var.value
    elif self.is_initializing():
      mean, var = _moments(y, tuple(range(y.ndim - 1)))
    else:
      if self.group is None:
        (mean, var), new = _global_moments(y, axis_name)
        new_mean, new_var = (moment.reshape(features) for moment in new)
      else:
        y, mean, var = _ghost_moments(y, self.group, axis_name, views)
        new = jnp.stack([m.reshape(-1, features).mean(0) for m in (mean, var)])
        new_mean, new_var = jax.lax.pmean(new, axis_name) if axis_name else new
      keep, add = self.momentum, 1 - self.momentum
      running_mean.value = keep * running_mean.value + add * new_mean
      running_var.value = keep * running_var.value + add * new_var

    factor = jax.lax.rsqrt(var + self.epsilon)
    if self.use_scale:
      factor *= self.param('scale', self.scale_init, (features,), jnp.float32)
    y = (y - mean) * factor
    if self.use_bias:
      y += self.param('bias', nn.initializers.zeros, (features,), jnp.float32)
    return y.reshape(x.shape).astype(x.dtype)


def _global_moments(x, axis_name) -> Any:
  """Returns moments over all devices, and the same without a gradient."""
  moments = _moments(x, tuple(range(x.ndim - 1)))
  if axis_name is None:
    return moments, moments
  return _of_all(moments, axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _of_all(moments, axis_name):
  """Mean and variance over all devices, from each device's own.

  A network waits for this at every norm, in each direction: one collective
  there, one back. (What jax.grad makes of the mean of the means and the mean of
  the variances has two.) They are gathered, for E[x^2] - E[x]^2 of sums would
  have no digit left where the mean is large.

  Args:
    moments: two arrays of this device, alike.
    axis_name: of the devices.

  Returns:
    The moments, each device's to differentiate, and the same as one value of
    all devices, which has no gradient.
  """
  return _forward(moments, axis_name)[0]


def _forward(moments, axis_name):
  means, variances = jax.lax.all_gather(
    jnp.stack(moments), axis_name, axis=1, to='invarying'
  )
  mean = means.mean(0)
  # Law of total variance: each device's own, and that of their means.
  shared = mean, (variances + jnp.square(means - mean)).mean(0)
  own = jax.lax.pcast(shared, axis_name, to='varying')
  return (own, shared), moments[0] - own[0]


def _backward(axis_name, deviation, gradients):
  share = jax.lax.pmean(jnp.stack(gradients[0]), axis_name)
  of_mean, of_var = jax.lax.pcast(share, axis_name, to='varying')
  return ((of_mean + 2 * deviation * of_var, of_var),)


_of_all.defvjp(_forward, _backward)


def _ghost_moments(x, group, axis_name, views):
  """Returns x as [groups, rows, ..., C] and moments [groups, 1, ..., C]."""
  rows, rest = divmod(x.shape[0], views)
  if rest:
    raise Error(
      f'ghost batch norm: {x.shape[0]} rows are not {views} equal views.'
    )
  devices = _devices_per_group(group, rows, axis_name)
  x = x.reshape(-1, min(group, rows), *x.shape[1:])
  mean, var = _moments(x, tuple(range(1, x.ndim - 1)))
  if devices > 1:
    # Gathered rather than reduced by psum(axis_index_groups=...), which
    # shard_map does not promise; the statistics are small.
    both = _of_my_group(jnp.stack([mean, var]), devices, axis_name)
    means, variances = both[:, 0], both[:, 1]
    mean = means.mean(0)
    var = (variances + jnp.square(means - mean)).mean(0)
  return x, mean, var


def _of_my_group(x, devices, axis_name):
  """Stacks x of the devices that share this one's group."""
  everyone = jax.lax.all_gather(x, axis_name)
  mine = jax.lax.axis_index(axis_name) // devices
  return everyone.reshape(-1, devices, *x.shape)[mine]
