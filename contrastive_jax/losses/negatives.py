"""Softmax over a batch's negatives, each block of similarities made once.

The matrix of similarities is symmetric: the block of rows I and columns J holds
what the anchors I need and, read by columns, what the anchors J need. So only
blocks on and above the diagonal are made, one at a time: half of the products,
in the memory of one block. The replicas deal the blocks out among them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.losses.gather import all_rows

# Rows and columns of a block: 1 MiB in float32, which a core's cache holds.
_BLOCK_ROWS = 512

# In the place of -inf, whose differences are not numbers: the logit of what is
# not summed, and the lowest that the maximum of a row may be.
_LEFT_OUT = -1e30
_LOWEST = -1e29


class Negatives(NamedTuple):
  """What a softmax over its negatives says of each anchor.

  float32 [2, b], of this replica's images: first the anchors of view a.
  """

  log_sum: jax.Array  # log of the sum of exp(logit); about -1e29 without any
  hardest: jax.Array  # the highest logit; -inf without any
  expected: jax.Array  # mean logit under the softmax


class _Layout(NamedTuple):
  """How the similarities are cut; static, and so the same on all replicas."""

  images: int  # N, of all replicas
  blocks: int  # of each view
  rows: int  # of each block; the last one of a view may not be full
  same_view: bool
  axis_name: str | None


def over_negatives(
  u_a: jax.Array,
  u_b: jax.Array,
  *,
  same_view: bool = True,
  axis_name: str | None = None,
) -> Negatives:
  """Returns the log-sum-exp over every anchor's negatives, and statistics.

  The logit of two embeddings is their scalar product u_i.u_j, so that a
  temperature T is to be divided out before: u = z / (||z|| sqrt(T)). Any size
  of logits is safe. The positive is not summed; it is one product for each
  anchor, which the caller adds or not.

  Args:
    u_a: [b, d], of the first view of this replica's images.
    u_b: [b, d], of the second view, in the same order.
    same_view: whether embeddings of other images in the anchor's own view are
      negatives, too: 2N-2 of them. False: those of the other view only, N-1.
    axis_name: the mapped axis over whose replicas embeddings are gathered, with
      gradient. None: these images are all.

  Returns:
    `Negatives` of this replica's 2b anchors. Only `log_sum` has a gradient, of
    reverse mode and first order.
  """
  images = len(u_a) * (jax.lax.axis_size(axis_name) if axis_name else 1)
  blocks = -(-images // _BLOCK_ROWS)
  rows = -(-images // blocks)
  layout = _Layout(images, blocks, rows, same_view, axis_name)
  u = jnp.stack([all_rows(v, axis_name) for v in (u_a, u_b)])
  u = jnp.pad(u, ((0, 0), (0, blocks * rows - images), (0, 0)))
  found = _of_own_blocks(u.reshape(2 * blocks, rows, -1), layout)
  # Every replica has seen a part of each anchor's negatives.
  parts = jax.tree.map(
    lambda x: _by_owner(x.reshape(2, -1)[:, :images], axis_name), found
  )
  log_sum = jax.nn.logsumexp(parts.log_sum, axis=0)
  parts = jax.lax.stop_gradient(parts)
  share = jnp.exp(parts.log_sum - jax.lax.stop_gradient(log_sum))
  hardest = jnp.max(parts.hardest, axis=0)
  return Negatives(
    log_sum,
    hardest=jnp.where(hardest > _LOWEST, hardest, -jnp.inf),
    expected=jnp.sum(share * parts.expected, axis=0),
  )


def block_pairs(blocks: int, same_view: bool, replicas: int) -> np.ndarray:
  """Returns which blocks of similarities are whose.

  Args:
    blocks: of each view: 0, 1, ... are of view a, `blocks`, ... of view b.
    same_view: see `over_negatives`.
    replicas: R, among whom the blocks are dealt.

  Returns:
    int32 [rounds, R, 2]: in each round a replica makes one block, of the rows
    and of the columns named. Together they have every block on and above the
    diagonal once. If their number does not divide by R, some replicas make in
    the last round a block from below the diagonal, of which nothing is summed.
  """
  i, j = np.indices((2 * blocks, 2 * blocks))
  wanted = i <= j if same_view else (i < blocks) & (j >= blocks)
  pairs = np.argwhere(wanted)
  spare = np.tile([blocks, 0], (-len(pairs) % replicas, 1))
  pairs = np.concatenate([pairs, spare])
  return pairs.reshape(-1, replicas, 2).astype(np.int32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _of_own_blocks(u: jax.Array, layout: _Layout) -> Negatives:
  """`Negatives`, as far as this replica's blocks tell, of all anchors.

  Args:
    u: [2 x blocks, rows, d], of all replicas.
    layout: how they are cut.

  Returns:
    float32 [2 x blocks, rows] each.
  """

  def add_block(sums, pair):
    logits = _logits(u, pair, layout)
    # Rows and columns are scaled each by their own maximum: with one for both,
    # an anchor far from all others would lose them at small temperatures.
    for axis, block in ((1, pair[0]), (0, pair[1])):
      high = jnp.maximum(jnp.max(logits, axis), _LOWEST)
      weights = jnp.exp(logits - jnp.expand_dims(high, axis))
      new = high, jnp.sum(weights, axis), jnp.sum(weights * logits, axis)
      merged = _merge([x[block] for x in sums], new)
      sums = [x.at[block].set(y) for x, y in zip(sums, merged, strict=True)]
    return sums, None

  zeros = jnp.zeros_like(u[..., 0])  # of u's kind: shard_map checks the loop
  (high, total, weighted), _ = jax.lax.scan(
    add_block, [zeros + _LOWEST, zeros, zeros], _own_pairs(layout)
  )
  total = jnp.maximum(total, jnp.finfo(total.dtype).tiny)
  return Negatives(high + jnp.log(total), high, weighted / total)


def _forward(u, layout):
  found = _of_own_blocks(u, layout)
  return found, (u, found.log_sum)


def _backward(layout, residuals, cotangents):
  """The gradient by u, for which each block is made a second time.

  With p_ij = exp(u_i.u_j - log_sum_i) and the cotangents g of log_sum,

    dL/du_i = sum_j (g_i p_ij + g_j p_ji) u_j:

  the bracket is symmetric, so one block gives it for its rows and its columns.
  """
  u, log_sum = residuals
  g = cotangents.log_sum
  # Columns for embeddings: with many rows and few columns the products are a
  # quarter slower on a CPU.
  u_t = jnp.swapaxes(u, 1, 2)

  def add_block(du_t, pair):
    i, j = pair
    logits = _logits(u, pair, layout)
    of_rows = g[i, :, None] * jnp.exp(logits - log_sum[i, :, None])
    of_columns = g[j] * jnp.exp(logits - log_sum[j])
    bracket = of_rows + of_columns
    du_t = du_t.at[i].add(_product(u_t[j], bracket.T))
    return du_t.at[j].add(_product(u_t[i], bracket)), None

  du_t, _ = jax.lax.scan(add_block, jnp.zeros_like(u_t), _own_pairs(layout))
  return (jnp.swapaxes(du_t, 1, 2),)


_of_own_blocks.defvjp(_forward, _backward)


def _logits(u: jax.Array, pair: jax.Array, layout: _Layout) -> jax.Array:
  """One block, [rows, rows], without what is not a negative."""
  i, j = pair
  needs_mask = (j - i) % layout.blocks == 0
  if layout.blocks * layout.rows > layout.images:
    last = layout.blocks - 1
    needs_mask |= (i % layout.blocks == last) | (j % layout.blocks == last)
  # A branch for the few that need it: a mask on all would keep XLA's CPU
  # compiler from its fast exponential, and the gradient would take twice as
  # long.
  return jax.lax.cond(
    needs_mask,
    functools.partial(_mask, layout=layout),
    lambda logits, pair: logits,
    _product(u[i], u[j].T),
    pair,
  )


def _mask(logits: jax.Array, pair: jax.Array, layout: _Layout) -> jax.Array:
  """Leaves out positives, and has every two embeddings in one place only."""
  # Numbers of embeddings k < l: above the diagonal. Of what the last blocks are
  # filled up with, no row is below a column and no column above a row.
  half = layout.blocks * layout.rows
  numbers = pair[:, None] * layout.rows + jnp.arange(layout.rows)
  is_image = numbers % half < layout.images
  k = jnp.where(is_image[0], numbers[0], 2 * half)[:, None]
  l = jnp.where(is_image[1], numbers[1], -1)
  return jnp.where((k < l) & (k + half != l), logits, _LEFT_OUT)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
  # TPUs multiply float32 matrices in bfloat16 unless told otherwise, too
  # coarse for logits that a small temperature multiplies.
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _merge(one, other):
  """Maximum of x, sum of exp(x - maximum) and of x exp(.), over both."""
  high = jnp.maximum(one[0], other[0])
  scales = [jnp.exp(sums[0] - high) for sums in (one, other)]
  total, weighted = (
    scales[0] * a + scales[1] * b
    for a, b in zip(one[1:], other[1:], strict=True)
  )
  return high, total, weighted


def _own_pairs(layout: _Layout) -> jax.Array:
  """[rounds, 2], this replica's part of `block_pairs`."""
  name = layout.axis_name
  replicas = jax.lax.axis_size(name) if name else 1
  pairs = block_pairs(layout.blocks, layout.same_view, replicas)
  replica = jax.lax.axis_index(name) if name else 0
  return jnp.asarray(pairs)[:, replica]


def _by_owner(x: jax.Array, axis_name: str | None) -> jax.Array:
  """[2, N] on each replica to [R, 2, b], what all say of this one's anchors."""
  if axis_name is None:
    return x[None]
  # Split and joined along one axis: of two JAX 0.10.2 confuses the gradient's.
  by_replica = x.reshape(2, jax.lax.axis_size(axis_name), -1).swapaxes(0, 1)
  return jax.lax.all_to_all(by_replica, axis_name, split_axis=0, concat_axis=0)
