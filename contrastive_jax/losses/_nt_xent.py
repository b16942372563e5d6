"""NT-Xent, the contrastive loss of SimCLR, over every replica's negatives."""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks
from contrastive_jax.losses.negatives import over_negatives
from contrastive_jax.losses.normalize import l2_normalize

# Rounding differs between two ways to take one product: cosines as near as
# this are a tie, and a collapsed batch has no accuracy by luck.
_TIE = 1e-6


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
    others, by more than rounding), entropy (nats, of the softmax over the
    others), positive_similarity and hardest_negative_similarity (cosines).

  Raises:
    ValueError: see `nt_xent`.
  """
  checks.shapes('nt_xent', z_a=(z_a, 'b d'), z_b=(z_b, 'b d'))
  checks.positive('nt_xent', temperature=temperature)
  terms = pair_terms(z_a, z_b, temperature=temperature, axis_name=axis_name)
  return cross_entropy(terms), means(terms)


def pair_terms(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  temperature: float | jax.Array,
  axis_name: str | None = None,
  same_view: bool = True,
) -> dict[str, jax.Array]:
  """Returns what losses over pairs are made of, for each of 2b anchors.

  Args:
    z_a: [b, d], see `nt_xent`.
    z_b: [b, d].
    temperature: T.
    axis_name: see `nt_xent`.
    same_view: whether the negatives are those of both views, or of the view
      only that the anchor is not of.

  Returns:
    float32 [2b] each, the anchors of z_a first: log_negatives (log of the sum
    of exp(similarity / T) over the negatives) and positive_logit (the
    positive's similarity / T); and, without gradient, the statistics of
    `nt_xent_and_statistics`.
  """
  u_a, u_b = (l2_normalize(z) / jnp.sqrt(temperature) for z in (z_a, z_b))
  negatives = over_negatives(u_a, u_b, same_view=same_view, axis_name=axis_name)
  negatives = jax.tree.map(jnp.ravel, negatives)
  positive = jnp.tile(jnp.sum(u_a * u_b, axis=-1), 2)

  positive_, log_sum = jax.lax.stop_gradient((positive, negatives.log_sum))
  normalizer = jnp.logaddexp(log_sum, positive_)
  expected_logit = (
    jnp.exp(positive_ - normalizer) * positive_
    + jnp.exp(log_sum - normalizer) * negatives.expected
  )
  similarity, hardest = positive_ * temperature, negatives.hardest * temperature
  return {
    'log_negatives': negatives.log_sum,
    'positive_logit': positive,
    'contrastive_accuracy': (similarity > hardest + _TIE).astype(jnp.float32),
    'entropy': normalizer - expected_logit,
    'positive_similarity': similarity,
    'hardest_negative_similarity': hardest,
  }


def cross_entropy(terms: dict[str, jax.Array]) -> jax.Array:
  """Takes what it needs out of `pair_terms`; returns the mean over anchors.

  -log [ e^p / (e^p + e^n) ] = log(1 + e^(n - p)): so written its gradient has
  all digits where the positive has almost all of the softmax, too.
  """
  difference = terms.pop('log_negatives') - terms.pop('positive_logit')
  return jnp.mean(jax.nn.softplus(difference))


def means(statistics: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """Returns the mean of each, without gradient."""
  return {k: jnp.mean(jax.lax.stop_gradient(v)) for k, v in statistics.items()}
