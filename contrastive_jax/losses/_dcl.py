"""Decoupled contrastive losses: NT-Xent without the positive in its sum."""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import _nt_xent as nt_xent
from contrastive_jax.losses import checks
from contrastive_jax.losses.gather import all_rows_replicated


def dcl(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  temperature: float,
  weight_sigma: float | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the decoupled contrastive loss, DCL or weighted (DCLW).

  With u = z/||z|| and all 2N embeddings u_1..u_2N of N images, image n's two
  views being a positive pair (i, j):

    l(i, j) = -w_n u_i.u_j / T + log sum_{k != i, j} exp(u_i.u_k / T)

  averaged over all 2N anchors i. Embeddings are normalized here. The sum runs
  over the 2N-2 negatives; without the positive in it the gradient does not
  fade when the positive is near. The weights average 1,

    w_n = 1 (DCL)   or   2 - N softmax_n(u_i.u_j / sigma) (DCLW),

  the softmax being over the N positive pairs of the global batch: pairs that
  are far apart count more. No gradient goes through the weights. The loss may
  be negative.

  Args:
    z_a: [b, d], projections of the first view of this replica's images.
    z_b: [b, d], of the second view, in the same order.
    temperature: T.
    weight_sigma: sigma of DCLW; None for DCL.
    axis_name: the mapped axis over whose replicas embeddings are gathered, with
      gradient; see `nt_xent.nt_xent`.

  Returns:
    float32 scalar. ln(2(N-1)) when all embeddings are alike.

  Raises:
    ValueError: a batch of one image has no negatives; or the shapes differ, or
      the temperature or sigma is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.ones((4, 8))  # all alike: ln(2 * (4 - 1))
    >>> loss = losses.dcl(z, z, temperature=0.1)
    >>> print(f'{float(loss):.4f}')
    1.7918

  Reference:
    Yeh et al. 2021 (arXiv 2110.06848), equation 6; there is no official
    code. raminnakhli/Decoupled-Contrastive-Learning adds the two directions
    (twice this value), and lets the gradient through w. lightly's
    loss/dcl_loss.py takes no gradient through w, as here; up to 1.5 it added
    one log-sum for each of the two views, another loss: 2 ln(N-1) when all are
    alike. In 1.6 it is one log-sum over both.
  """
  loss, _ = dcl_and_statistics(
    z_a,
    z_b,
    temperature=temperature,
    weight_sigma=weight_sigma,
    axis_name=axis_name,
  )
  return loss


def dcl_and_statistics(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  temperature: float,
  weight_sigma: float | None = None,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `dcl` and the statistics of `nt_xent.nt_xent_and_statistics`.

  Args:
    z_a: [b, d], see `dcl`.
    z_b: [b, d].
    temperature: T.
    weight_sigma: see `dcl`.
    axis_name: see `dcl`.

  Returns:
    The loss, and float32 scalars without gradient. The entropy is that of the
    softmax over all others, the positive included, as NT-Xent's.

  Raises:
    ValueError: see `dcl`.
  """
  checks.shapes('dcl', z_a=(z_a, 'b d'), z_b=(z_b, 'b d'))
  checks.positive('dcl', temperature=temperature, weight_sigma=weight_sigma)
  rows = len(z_a)
  batch = rows * (jax.lax.axis_size(axis_name) if axis_name else 1)
  if batch < 2:
    raise ValueError('DCL has no negatives in a batch of 1 image.')
  terms = nt_xent.pair_terms(
    z_a, z_b, temperature=temperature, axis_name=axis_name
  )
  log_negatives = terms.pop('log_negatives')
  positive = terms.pop('positive_logit')
  if weight_sigma is not None:
    scores = terms['positive_similarity'][:rows] / weight_sigma
    log_sum = jax.nn.logsumexp(all_rows_replicated(scores, axis_name))
    weight = 2 - batch * jnp.exp(jax.lax.stop_gradient(scores) - log_sum)
    positive *= jnp.tile(weight, 2)
  return jnp.mean(log_negatives - positive), nt_xent.means(terms)
