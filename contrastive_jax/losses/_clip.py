"""CLIP's loss: each image finds its text in the batch, each text its image."""

import jax

from contrastive_jax.losses import checks
from contrastive_jax.losses._nt_xent import cross_entropy, means, pair_terms


def clip(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  temperature: float | jax.Array,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the symmetric cross entropy of two modalities of one batch.

  With u = z_a/||z_a|| of N images and v = z_b/||z_b|| of their N texts:

    l(i) = -log [ exp(u_i.v_i / T) / sum_k exp(u_i.v_k / T) ]
           -log [ exp(u_i.v_i / T) / sum_k exp(u_k.v_i / T) ]

  over 2, averaged over the N pairs i. Embeddings are normalized here. Unlike
  `nt_xent`, an image's negatives are texts only, a text's images only.

  Args:
    z_a: [b, d], embeddings of this replica's images.
    z_b: [b, d], of their texts, in the same order.
    temperature: T. The paper learns it: an array gets a gradient. Its clipping
      at 0.01 is the caller's.
    axis_name: the mapped axis over whose replicas embeddings are gathered, with
      gradient. The value is the mean over this replica's 2b anchors: its mean
      over replicas, and the mean of its gradients, are those of one device with
      the whole batch. None: this replica's pairs are the whole batch.

  Returns:
    float32 scalar. ln N when all embeddings are alike.

  Raises:
    ValueError: the shapes differ, or the temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.ones((4, 8))  # all alike: ln 4
    >>> loss = losses.clip(z, z, temperature=0.07)
    >>> print(f'{float(loss):.4f}')
    1.3863

  Reference:
    Radford et al. 2021 (arXiv 2103.00020), figure 3; openai/CLIP,
    clip/model.py, has the logits only.
  """
  loss, _ = clip_and_statistics(
    z_a, z_b, temperature=temperature, axis_name=axis_name
  )
  return loss


def clip_and_statistics(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  temperature: float | jax.Array,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `clip` and the statistics of `nt_xent.nt_xent_and_statistics`.

  Args:
    z_a: [b, d], see `clip`.
    z_b: [b, d].
    temperature: T.
    axis_name: see `clip`.

  Returns:
    The loss, and float32 scalars without gradient, each a mean over the anchors
    of both modalities; the others of an anchor are those of the other modality.

  Raises:
    ValueError: see `clip`.
  """
  checks.shapes('clip', z_a=(z_a, 'b d'), z_b=(z_b, 'b d'))
  checks.positive('clip', temperature=temperature)
  terms = pair_terms(
    z_a, z_b, temperature=temperature, axis_name=axis_name, same_view=False
  )
  return cross_entropy(terms), means(terms)
