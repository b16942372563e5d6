"""InfoNCE, one way: rows against keys of a queue, or of the global batch."""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks
from contrastive_jax.losses.gather import all_rows, first_row
from contrastive_jax.losses.normalize import l2_normalize


def queue_info_nce(
  queries: jax.Array,
  keys: jax.Array,
  queue: jax.Array,
  *,
  temperature: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns MoCo's loss, of queries against their keys and a queue, and more.

  With u = q/||q||, v = k/||k|| and the queue's rows n_1..n_K as they are (unit
  vectors, for they were normalized before they came in):

    l_i = -log [ exp(u_i.v_i / T) / (exp(u_i.v_i/T) + sum_j exp(u_i.n_j/T)) ]

  averaged over the rows i. The queue is the same on every replica and nothing
  else of another replica takes part, so there is no axis: the mean over
  replicas of this value is that of one device.

  Args:
    queries: [b, d], of this replica's images.
    keys: [b, d], of the same images in the same order. MoCo stops their
      gradient, this function does not.
    queue: [K, d].
    temperature: T.

  Returns:
    float32 scalar: ln(K + 1) when all embeddings are alike; and float32 scalars
    without gradient, each a mean over rows: contrastive_accuracy (share of the
    rows whose key is nearer than all of the queue), entropy (nats, of the
    softmax over the K + 1), positive_similarity and hardest_negative_similarity
    (cosines).

  Raises:
    ValueError: shapes do not fit, or the temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.ones((4, 8))
    >>> queue = losses.l2_normalize(jnp.ones((15, 8)))  # all alike: ln(15 + 1)
    >>> loss, _ = losses.queue_info_nce(z, z, queue, temperature=0.1)
    >>> print(f'{float(loss):.4f}')
    2.7726

  Reference:
    He et al. 2020 (arXiv 1911.05722), equation 1 and algorithm 1, which
    facebookresearch/moco, moco/builder.py, follows.
  """
  checks.shapes(
    'queue_info_nce',
    queries=(queries, 'b d'),
    keys=(keys, 'b d'),
    queue=(queue, 'K d'),
  )
  checks.positive('queue_info_nce', temperature=temperature)
  u, v = l2_normalize(queries), l2_normalize(keys)
  positive = jnp.sum(u * v, axis=-1, keepdims=True)
  similarity = jnp.concatenate([positive, products(u, queue)], axis=-1)
  index = jnp.zeros(len(queries), jnp.int32)
  return cross_entropy(similarity, index, temperature)


def batch_info_nce(
  rows: jax.Array,
  columns: jax.Array,
  *,
  temperature: float,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the cross entropy of each row's own column in the global batch.

  With u = row/||row|| of this replica and v = column/||column|| of all B
  images:

    l_i = -log [ exp(u_i.v_i / T) / sum_j exp(u_i.v_j / T) ]

  averaged over the rows i. MoCo v3: rows are queries, columns the keys, without
  gradient; its loss is 2T times this. NNCLR: rows are nearest neighbors,
  without gradient, columns the predictions. Negatives are of the other view
  only, so nothing is masked.

  Args:
    rows: [b, d], of this replica's images.
    columns: [b, d], of the same images in the same order; gathered over the
      replicas, with gradient.
    temperature: T.
    axis_name: the mapped axis. The mean over replicas of this value, and of its
      gradients, are those of one device with the whole batch. None: these
      images are the whole batch.

  Returns:
    float32 scalar: ln B when all embeddings are alike; and the statistics that
    `queue_info_nce` returns, over B columns.

  Raises:
    ValueError: the shapes differ, or the temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.ones((4, 8))  # all alike: ln 4
    >>> loss, _ = losses.batch_info_nce(z, z, temperature=0.1)
    >>> print(f'{float(loss):.4f}')
    1.3863

  Reference:
    Chen et al. 2021 (MoCo v3, arXiv 2104.02057), algorithm 1;
    facebookresearch/moco-v3, moco/builder.py. Dwibedi et al. 2021 (NNCLR,
    2104.14548), equation 2; it has no official code.
  """
  checks.shapes('batch_info_nce', rows=(rows, 'b d'), columns=(columns, 'b d'))
  checks.positive('batch_info_nce', temperature=temperature)
  u, v = l2_normalize(rows), l2_normalize(columns)
  similarity = products(u, all_rows(v, axis_name))
  index = first_row(len(rows), axis_name) + jnp.arange(len(rows))
  return cross_entropy(similarity, index, temperature)


def products(u: jax.Array, v: jax.Array) -> jax.Array:
  """[n, d] and [m, d] to [n, m]."""
  # TPUs multiply float32 matrices in bfloat16 unless told otherwise, too
  # coarse for logits that a small temperature multiplies.
  return jnp.matmul(
    u, v.astype(jnp.float32).T, precision=jax.lax.Precision.HIGHEST
  )


def cross_entropy(similarity, positive_index, temperature):
  """Means over the rows of a matrix whose row i has one positive column."""
  is_positive = jnp.arange(similarity.shape[1]) == positive_index[:, None]
  logits = similarity / temperature
  log_normalizer = jax.nn.logsumexp(logits, axis=-1)
  positive = jnp.sum(jnp.where(is_positive, logits, 0.0), axis=-1)
  loss = jnp.mean(log_normalizer - positive)

  logits, log_normalizer, positive = jax.lax.stop_gradient(
    (logits, log_normalizer, positive)
  )
  hardest = jnp.max(jnp.where(is_positive, -jnp.inf, logits), axis=-1)
  probability = jnp.exp(logits - log_normalizer[:, None])
  return loss, {
    'contrastive_accuracy': jnp.mean(positive > hardest),
    'entropy': jnp.mean(log_normalizer - jnp.sum(probability * logits, -1)),
    'positive_similarity': jnp.mean(positive) * temperature,
    'hardest_negative_similarity': jnp.mean(hardest) * temperature,
  }
