"""SupCon, the supervised contrastive loss: all images of a class are alike."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks
from contrastive_jax.losses._nt_xent import means
from contrastive_jax.losses.gather import all_rows, first_row
from contrastive_jax.losses.normalize import l2_normalize

# Rows of the similarity matrix that exist at a time. 512 rows against 16,384
# columns are 32 MiB; a whole matrix of 8,192 pairs would be 1 GiB.
_BLOCK_ROWS = 512


def supcon(
  views: Sequence[jax.Array],
  labels: jax.Array | None = None,
  *,
  temperature: float,
  base_temperature: float = 0.07,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the supervised contrastive loss with the sum outside of the log.

  With u = z/||z||, all VN embeddings u_1..u_VN of V views of N images, and P(i)
  the others of u_i's label:

    l_i = -(T / T_base) / |P(i)| sum_{p in P(i)}
            log [ exp(u_i.u_p / T) / sum_{k != i} exp(u_i.u_k / T) ]

  averaged over all VN anchors i; an anchor without positives (possible with one
  view only) counts with 0. Embeddings are normalized here. The denominator has
  all others, positives too, so that a class drawn to one point does not bring
  the loss to 0: it stays above (T / T_base) times the mean of ln |P(i)|.

  Args:
    views: V times [b, d], projections of this replica's images, in the same
      order.
    labels: int [b], equal for one class. None: each image is its own class, and
      for two views the loss is T / T_base times `nt_xent`.
    temperature: T.
    base_temperature: T_base; only scales the loss. The official PyTorch code
      has 0.07; 1 is the scale of the official TensorFlow code, T that of the
      paper's equation.
    axis_name: the mapped axis over whose replicas embeddings, with gradient,
      and labels are gathered. The value is the mean over this replica's Vb
      anchors: its mean over replicas, and the mean of its gradients, are those
      of one device with the whole batch.

  Returns:
    float32 scalar. (T / T_base) ln(VN-1) when all embeddings are alike,
    whatever the labels, if every anchor has a positive.

  Raises:
    ValueError: one view of one image has no others; or shapes do not fit, or a
      temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z, labels = jnp.ones((4, 8)), jnp.array([0, 0, 1, 1])
    >>> loss = losses.supcon(  # all alike: ln(2 * 4 - 1)
    ...   [z, z], labels, temperature=0.1, base_temperature=0.1
    ... )
    >>> print(f'{float(loss):.4f}')
    1.9459

  Reference:
    Khosla et al. 2020 (arXiv 2004.11362), equation 2, L_out; HobbitLong/
    SupContrast, losses.py. The paper adds up the anchors, the code averages.
  """
  loss, _ = supcon_and_statistics(
    views,
    labels,
    temperature=temperature,
    base_temperature=base_temperature,
    axis_name=axis_name,
  )
  return loss


def supcon_and_statistics(
  views: Sequence[jax.Array],
  labels: jax.Array | None = None,
  *,
  temperature: float,
  base_temperature: float = 0.07,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `supcon` and what the same similarities tell about the batch.

  Args:
    views: V times [b, d], see `supcon`.
    labels: int [b] or None.
    temperature: T.
    base_temperature: T_base.
    axis_name: see `supcon`.

  Returns:
    The loss, and float32 scalars without gradient, each a mean over anchors:
    contrastive_accuracy (share of the anchors to which one of their own class
    is nearer than all of the others), entropy (nats, of the softmax over all
    others), positive_similarity (mean cosine of the positives, 0 without any)
    and hardest_negative_similarity (-1 without any).

  Raises:
    ValueError: see `supcon`.
  """
  checks.length('supcon', 'views', views, least=1)
  arrays = checks.each('views', views, 'b d')
  if labels is not None:
    arrays['labels'] = (labels, 'b')
  checks.shapes('supcon', **arrays)
  checks.positive(
    'supcon', temperature=temperature, base_temperature=base_temperature
  )
  units = [l2_normalize(z) for z in views]
  columns = jnp.concatenate([all_rows(u, axis_name) for u in units])
  if len(columns) < 2:
    raise ValueError('SupCon compares others with 1 view of 1 image: none.')
  rows, total = len(units[0]), len(columns) // len(units)
  own = first_row(rows, axis_name) + jnp.arange(rows)
  labels = own if labels is None else labels
  terms = _map_anchors(
    functools.partial(
      _anchor_rows,
      columns,
      jnp.tile(all_rows(labels, axis_name), len(units)),
      temperature,
    ),
    (
      jnp.concatenate(units),
      jnp.concatenate([v * total + own for v in range(len(units))]),
      jnp.tile(labels, len(units)),
    ),
  )
  loss = temperature / base_temperature * jnp.mean(terms.pop('loss'))
  return loss, means(terms)


def _map_anchors(
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


def _in_blocks(x: jax.Array) -> jax.Array:
  """[n, ...] to [blocks, _BLOCK_ROWS, ...], the last one filled up."""
  padding = -x.shape[0] % _BLOCK_ROWS
  x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
  return x.reshape(-1, _BLOCK_ROWS, *x.shape[1:])


def _anchor_rows(columns, column_labels, temperature, anchors):
  """Loss, before its scale, and statistics of some anchors."""
  rows, self_index, labels = anchors
  similarity = jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)
  is_self = jnp.arange(len(columns)) == self_index[:, None]
  is_class = column_labels == labels[:, None]
  is_positive = is_class & ~is_self
  count = jnp.sum(is_positive, axis=-1)

  logits = jnp.where(is_self, -jnp.inf, similarity / temperature)
  log_normalizer = jax.nn.logsumexp(logits, axis=-1)
  positive = jnp.sum(
    jnp.where(is_positive, logits, 0.0), axis=-1
  ) / jnp.maximum(count, 1)

  similarity, logits, normalizer, positive_ = jax.lax.stop_gradient(
    (similarity, logits, log_normalizer, positive)
  )
  nearest = jnp.max(similarity, axis=-1, where=is_positive, initial=-jnp.inf)
  hardest = jnp.max(similarity, axis=-1, where=~is_class, initial=-1.0)
  probability = jnp.exp(logits - normalizer[:, None])
  expected_logit = jnp.sum(
    jnp.where(is_self, 0.0, probability * logits), axis=-1
  )
  return {
    'loss': jnp.where(count > 0, log_normalizer - positive, 0.0),
    'contrastive_accuracy': (nearest > hardest).astype(jnp.float32),
    'entropy': normalizer - expected_logit,
    'positive_similarity': positive_ * temperature,
    'hardest_negative_similarity': hardest,
  }
