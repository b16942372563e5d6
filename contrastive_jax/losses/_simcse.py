"""SimCSE's loss: each sentence finds its other view in the batch."""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks
from contrastive_jax.losses._info_nce import cross_entropy, products
from contrastive_jax.losses.gather import all_rows, first_row
from contrastive_jax.losses.normalize import l2_normalize


def simcse(
  z_a: jax.Array,
  z_b: jax.Array,
  negatives: jax.Array | None = None,
  *,
  temperature: float,
  hard_negative_weight: float = 0.0,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns SimCSE's loss, unsupervised or with hard negatives, and more.

  With u = z_a/||z_a|| of N sentences, v = z_b/||z_b|| of what means the same,
  and w = n/||n|| of what does not:

    l(i) = -log [ exp(u_i.v_i / T) / sum_k ( exp(u_i.v_k / T)
                                     + a_ik exp(u_i.w_k / T) ) ]

  averaged over the N sentences i, in this one direction; a_ik = exp(weight) for
  the own hard negative, k = i, and 1 for those of others. Without negatives
  their terms are left out. Embeddings are normalized here.

  Args:
    z_a: [b, d], of this replica's sentences.
    z_b: [b, d], of the same sentences with other dropout, or of their pairs.
    negatives: [b, d], of a hard negative of each, or None.
    temperature: T.
    hard_negative_weight: see above; of the official code, 0 there as well.
    axis_name: the mapped axis over whose replicas z_b and negatives are
      gathered, with gradient. The mean over replicas of this value, and of its
      gradients, are those of one device with the whole batch. The official code
      gathers without it, and has 1/R of the gradient.

  Returns:
    float32 scalar: ln N when all embeddings are alike, ln 2N with negatives;
    and the statistics of `queue_info_nce`, over the N or 2N columns.

  Raises:
    ValueError: the shapes differ, or the temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.ones((4, 8))  # all alike: ln 4, and ln 8
    >>> loss, _ = losses.simcse(z, z, temperature=0.05)
    >>> supervised, _ = losses.simcse(z, z, z, temperature=0.05)
    >>> print(f'{float(loss):.4f} {float(supervised):.4f}')
    1.3863 2.0794

  Reference:
    Gao et al. 2021 (arXiv 2104.08821), equations 4 and 5, and section 4 for
    the weight; princeton-nlp/SimCSE, simcse/models.py.
  """
  checks.shapes('simcse', z_a=(z_a, 'b d'), z_b=(z_b, 'b d'))
  checks.positive('simcse', temperature=temperature)
  index = first_row(len(z_a), axis_name) + jnp.arange(len(z_a))
  u = l2_normalize(z_a)

  def similarity(z):
    return products(u, all_rows(l2_normalize(z), axis_name))

  columns = similarity(z_b)
  if negatives is not None:
    checks.shapes('simcse', z_a=(z_a, 'b d'), negatives=(negatives, 'b d'))
    others = similarity(negatives)
    own = jnp.arange(others.shape[1]) == index[:, None]
    others += temperature * hard_negative_weight * own
    columns = jnp.concatenate([columns, others], axis=1)
  return cross_entropy(columns, index, temperature)
