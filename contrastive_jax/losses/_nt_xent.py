"""NT-Xent, the contrastive loss of SimCLR, over every replica's negatives."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks
from contrastive_jax.losses.gather import all_rows, first_row
from contrastive_jax.losses.normalize import l2_normalize

# Rows of the similarity matrix that exist at a time. 512 rows against 16,384
# columns are 32 MiB; a whole matrix of 8,192 pairs would be 1 GiB.
_BLOCK_ROWS = 512


def nt_xent(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  temperature: float,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the normalized, temperature-scaled cross entropy.

  With u = z/||z|| and all 2N embeddings u_1..u_2N of N images, image k's two
  views being a positive pair (i, j):

    l(i, j) = -log [ exp(u_i.u_j / T) / sum_{k != i} exp(u_i.u_k / T) ]

  averaged over all 2N anchors i. Embeddings are normalized here. The sum runs
  over 2N-1 others: the positive and 2N-2 negatives.

  Args:
    z_a: [b, d], projections of the first view of this replica's images.
    z_b: [b, d], of the second view, in the same order.
    temperature: T.
    axis_name: the mapped axis over whose replicas embeddings are gathered, with
      gradient. The value is the mean over this replica's 2b anchors: its mean
      over replicas, and the mean of its gradients, are those of one device with
      the whole batch. None: this replica's images are the whole batch.

  Returns:
    float32 scalar. ln(2N-1) when all embeddings are alike.

  Raises:
    ValueError: the shapes differ, or the temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.ones((4, 8))  # all alike: ln(2 * 4 - 1)
    >>> loss = losses.nt_xent(z, z, temperature=0.1)
    >>> print(f'{float(loss):.4f}')
    1.9459

  Reference:
    Chen et al. 2020 (arXiv 2002.05709), equation 1 and algorithm 1. The
    official code (google-research/simclr, tf2/objective.py) adds the two
    directions instead of averaging: twice this value.
  """
  loss, _ = nt_xent_and_statistics(
    z_a, z_b, temperature=temperature, axis_name=axis_name
  )
  return loss


def nt_xent_and_statistics(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  temperature: float,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `nt_xent` and what the same similarities tell about the batch.

  Args:
    z_a: [b, d], see `nt_xent`.
    z_b: [b, d].
    temperature: T.
    axis_name: see `nt_xent`.

  Returns:
    The loss, and float32 scalars without gradient, each a mean over anchors:
    contrastive_accuracy (share of anchors whose positive is the nearest of all
    others), entropy (nats, of the softmax over the others),
    positive_similarity and hardest_negative_similarity (cosines).

  Raises:
    ValueError: see `nt_xent`.
  """
  checks.shapes('nt_xent', z_a=(z_a, 'b d'), z_b=(z_b, 'b d'))
  checks.positive('nt_xent', temperature=temperature)
  terms = pair_terms(z_a, z_b, temperature=temperature, axis_name=axis_name)
  loss = jnp.mean(terms.pop('log_normalizer') - terms.pop('positive_logit'))
  return loss, means(terms)


def pair_terms(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  temperature: float,
  axis_name: str | None = None,
  positive_in_sum: bool = True,
) -> dict[str, jax.Array]:
  """Returns what losses over pairs are made of, for each of 2b anchors.

  Args:
    z_a: [b, d], see `nt_xent`.
    z_b: [b, d].
    temperature: T.
    axis_name: see `nt_xent`.
    positive_in_sum: whether the sum over others has the positive.

  Returns:
    float32 [2b] each, the anchors of z_a first: log_normalizer (log of the sum
    of exp(similarity / T) over the others) and positive_logit (the positive's
    similarity / T); and, without gradient, the statistics of
    `nt_xent_and_statistics`.
  """
  u_a, u_b = l2_normalize(z_a), l2_normalize(z_b)
  columns = jnp.concatenate([all_rows(u, axis_name) for u in (u_a, u_b)])
  total = columns.shape[0] // 2
  own = first_row(len(u_a), axis_name) + jnp.arange(len(u_a))
  self_index = jnp.concatenate([own, total + own])
  positive_index = jnp.concatenate([total + own, own])
  return map_anchors(
    functools.partial(_anchor_rows, columns, temperature, positive_in_sum),
    (jnp.concatenate([u_a, u_b]), self_index, positive_index),
  )


def map_anchors(
  row_fn: Callable[[Any], dict[str, jax.Array]], anchors: Any
) -> dict[str, jax.Array]:
  """Returns row_fn(anchors), computed for at most 512 anchors at a time.

  Args:
    row_fn: a function of the anchors, each treated on its own.
    anchors: a tree of arrays [n, ...].

  Returns:
    What row_fn returns: arrays [n].
  """
  rows = jax.tree.leaves(anchors)[0].shape[0]
  if rows <= _BLOCK_ROWS:
    return row_fn(anchors)
  # The backward pass makes each block's similarities again: memory is one
  # block, whatever the batch, for one more matrix product.
  per_row = jax.lax.map(
    jax.checkpoint(row_fn), jax.tree.map(_in_blocks, anchors)
  )
  return {k: v.reshape(-1)[:rows] for k, v in per_row.items()}


def means(statistics: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """Returns the mean of each, without gradient."""
  return {k: jnp.mean(jax.lax.stop_gradient(v)) for k, v in statistics.items()}


def _in_blocks(x: jax.Array) -> jax.Array:
  """[n, ...] to [blocks, _BLOCK_ROWS, ...], the last one filled up."""
  padding = -x.shape[0] % _BLOCK_ROWS
  x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
  return x.reshape(-1, _BLOCK_ROWS, *x.shape[1:])


def _anchor_rows(columns, temperature, positive_in_sum, anchors):
  """`pair_terms` of some rows of the similarity matrix."""
  rows, self_index, positive_index = anchors
  # TPUs multiply float32 matrices in bfloat16 unless told otherwise, too
  # coarse for logits that a small temperature multiplies.
  similarity = jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)
  index = jnp.arange(columns.shape[0])
  is_self = index == self_index[:, None]
  is_positive = index == positive_index[:, None]
  logits = jnp.where(is_self, -jnp.inf, similarity / temperature)
  left_out = is_positive & (not positive_in_sum)
  log_normalizer = jax.nn.logsumexp(
    jnp.where(left_out, -jnp.inf, logits), axis=-1
  )
  positive = jnp.sum(jnp.where(is_positive, logits, 0.0), axis=-1)

  logits, normalizer, positive_ = jax.lax.stop_gradient(
    (logits, log_normalizer, positive)
  )
  hardest = jnp.max(jnp.where(is_positive, -jnp.inf, logits), axis=-1)
  if not positive_in_sum:  # the softmax is over all others in any case
    normalizer = jnp.logaddexp(normalizer, positive_)
  # Where the softmax is 0 its logit is -inf or of no account.
  probability = jnp.exp(logits - normalizer[:, None])
  expected_logit = jnp.sum(
    jnp.where(is_self, 0.0, probability * logits), axis=-1
  )
  return {
    'log_normalizer': log_normalizer,
    'positive_logit': positive,
    'contrastive_accuracy': (positive_ > hardest).astype(jnp.float32),
    'entropy': normalizer - expected_logit,
    'positive_similarity': positive_ * temperature,
    'hardest_negative_similarity': hardest * temperature,
  }
