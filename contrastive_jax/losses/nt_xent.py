"""NT-Xent, the contrastive loss of SimCLR, over every replica's negatives."""

import functools

import jax
import jax.numpy as jnp

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
  """Returns the normalised, temperature-scaled cross entropy.

  With u = z/||z|| and all 2N embeddings u_1..u_2N of N images, image k's two
  views being a positive pair (i, j):

    l(i, j) = -log [ exp(u_i.u_j / T) / sum_{k != i} exp(u_i.u_k / T) ]

  averaged over all 2N anchors i. Embeddings are normalised here. The sum runs
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
  """
  u_a, u_b = l2_normalize(z_a), l2_normalize(z_b)
  batch = u_a.shape[0]
  if axis_name is None:
    all_a, all_b, first = u_a, u_b, 0
  else:
    all_a, all_b = (
      jax.lax.all_gather(u, axis_name, tiled=True) for u in (u_a, u_b)
    )
    first = jax.lax.axis_index(axis_name) * batch
  columns = jnp.concatenate([all_a, all_b])
  total = all_a.shape[0]
  own = first + jnp.arange(batch)
  rows = jnp.concatenate([u_a, u_b])
  self_index = jnp.concatenate([own, total + own])
  positive_index = jnp.concatenate([total + own, own])

  block_fn = functools.partial(_anchor_rows, columns, temperature)
  if 2 * batch <= _BLOCK_ROWS:
    per_row = block_fn((rows, self_index, positive_index))
  else:
    # The backward pass makes each block's similarities again: memory is one
    # block, whatever the batch, for one more matrix product.
    per_row = jax.lax.map(
      jax.checkpoint(block_fn),
      jax.tree.map(_in_blocks, (rows, self_index, positive_index)),
    )
    per_row = {k: v.reshape(-1)[: 2 * batch] for k, v in per_row.items()}
  means = {k: jnp.mean(v) for k, v in per_row.items()}
  return means.pop('loss'), jax.lax.stop_gradient(means)


def _in_blocks(x: jax.Array) -> jax.Array:
  """[n, ...] to [blocks, _BLOCK_ROWS, ...], the last one filled up."""
  padding = -x.shape[0] % _BLOCK_ROWS
  x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
  return x.reshape(-1, _BLOCK_ROWS, *x.shape[1:])


def _anchor_rows(columns, temperature, anchors):
  """Per-anchor loss and statistics of some rows of the similarity matrix."""
  rows, self_index, positive_index = anchors
  # TPUs multiply float32 matrices in bfloat16 unless told otherwise, too
  # coarse for logits that a small temperature multiplies.
  similarity = jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)
  index = jnp.arange(columns.shape[0])
  is_self = index == self_index[:, None]
  is_positive = index == positive_index[:, None]
  logits = jnp.where(is_self, -jnp.inf, similarity / temperature)
  log_normalizer = jax.nn.logsumexp(logits, axis=-1)
  positive = jnp.sum(jnp.where(is_positive, logits, 0.0), axis=-1)

  logits, normalizer, positive_ = jax.lax.stop_gradient(
    (logits, log_normalizer, positive)
  )
  hardest = jnp.max(jnp.where(is_positive, -jnp.inf, logits), axis=-1)
  # Where the softmax is 0 its logit is -inf or of no account.
  probability = jnp.exp(logits - normalizer[:, None])
  expected_logit = jnp.sum(
    jnp.where(is_self, 0.0, probability * logits), axis=-1
  )
  return {
    'loss': log_normalizer - positive,
    'contrastive_accuracy': (positive_ > hardest).astype(jnp.float32),
    'entropy': normalizer - expected_logit,
    'positive_similarity': positive_ * temperature,
    'hardest_negative_similarity': hardest * temperature,
  }
