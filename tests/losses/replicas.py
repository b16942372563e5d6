"""A loss on several devices together, against the same on one."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec as P

from contrastive_jax.training.step import AXIS, make_mesh


def value_and_grad(
  loss: Callable[..., jax.Array],
  rows: Any,
  *data: jax.Array,
  devices: int = 8,
  mapping: str = 'shard_map',
) -> tuple[jax.Array, Any]:
  """Returns the whole batch's loss and its gradient by `rows`.

  Args:
    loss: of (rows, *data, axis_name=...), as one replica has them.
    rows: a tree of arrays [n, ...] that are spread over the devices.
    *data: likewise, without a gradient.
    devices: how many.
    mapping: 'shard_map' or 'pmap'.
  """

  def local(rows, *data):
    value, gradient = jax.value_and_grad(loss)(rows, *data, axis_name=AXIS)
    # The loss of the whole batch is the mean of the replicas' losses.
    gradient = jax.tree.map(lambda g: g / devices, gradient)
    return jax.lax.pmean(value, AXIS), gradient

  used = jax.devices()[:devices]
  if mapping == 'shard_map':
    mapped = jax.shard_map(
      local, mesh=make_mesh(used), in_specs=P(AXIS), out_specs=(P(), P(AXIS))
    )
    return jax.jit(mapped)(rows, *data)
  by_device = jax.tree.map(
    lambda x: x.reshape(devices, -1, *x.shape[1:]), (rows, *data)
  )
  value, gradient = jax.pmap(
    local, axis_name=AXIS, out_axes=(None, 0), devices=used
  )(*by_device)
  return value, jax.tree.map(lambda g, x: g.reshape(x.shape), gradient, rows)


def assert_same(
  ours: tuple[Any, Sequence[Any]],
  whole: tuple[Any, Sequence[Any]],
  *,
  rtol: float = 1e-5,
) -> None:
  """Holds a value to `rtol`, and each gradient's norm of the error to 1e-5."""
  np.testing.assert_allclose(ours[0], whole[0], rtol=rtol)
  for a, b in zip(ours[1], whole[1], strict=True):
    assert np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b)
