"""Rows of all replicas, in the order of the global batch."""

import jax
import jax.numpy as jnp


def all_rows(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns every replica's rows, with the gradient of each.

  Args:
    x: [b, ...], this replica's rows.
    axis_name: the mapped axis; None: these rows are all there are.

  Returns:
    [B, ...]: replica r's rows are [r b, (r + 1) b).
  """
  if axis_name is None:
    return x
  return jax.lax.all_gather(x, axis_name, tiled=True)


def all_rows_replicated(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns `all_rows`, known to be the same everywhere, without a gradient.

  For what stays in the state: queues, memory banks. shard_map refuses a state
  that it cannot prove to be the same on every replica.

  Args:
    x: [b, ...].
    axis_name: see `all_rows`.

  Returns:
    [B, ...].
  """
  x = jax.lax.stop_gradient(x)
  if axis_name is None:
    return x
  return jax.lax.all_gather(x, axis_name, tiled=True, to='invarying')


def first_row(rows: int, axis_name: str | None) -> jax.Array:
  """Returns the number, in the global batch, of this replica's first row.

  Args:
    rows: b, of each replica.
    axis_name: see `all_rows`.

  Returns:
    int32 scalar.
  """
  if axis_name is None:
    return jnp.zeros((), jnp.int32)
  return jax.lax.axis_index(axis_name) * rows


def mean(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns the mean of x over the replicas; x itself without an axis."""
  return x if axis_name is None else jax.lax.pmean(x, axis_name)
