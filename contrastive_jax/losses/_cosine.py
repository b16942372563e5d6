"""Losses of a prediction against one target: BYOL's and SimSiam's.

Both compare row i with row i and gather nothing, so they take no axis: the mean
of the replicas' values, and of their gradients, is that of the whole batch.
Neither stops a gradient; the objective does.
"""

import jax
import jax.numpy as jnp

from contrastive_jax.losses.normalize import l2_normalize


def normalized_squared_error(
  prediction: jax.Array, target: jax.Array
) -> jax.Array:
  """Returns the mean squared distance of unit vectors, BYOL's loss.

    mean_i || p_i/||p_i|| - z_i/||z_i|| ||^2  =  mean_i 2 - 2 cos(p_i, z_i)

  Both sides are normalised here; the mean is over rows, the square summed over
  dimensions.

  Args:
    prediction: p, [b, d], of one view.
    target: z, [b, d], of another view of the same images.

  Returns:
    float32 scalar in [0, 4]: 2 for unrelated directions. A zero vector has no
    direction: its distance to a unit vector counts as 1.

  Reference:
    Grill et al. 2020 (arXiv 2006.07733), equation 2; deepmind-research,
    byol/utils/helpers.py. The loss of the paper and of the code is the sum of
    two such terms, one a view.
  """
  difference = l2_normalize(prediction) - l2_normalize(target)
  return jnp.mean(jnp.sum(jnp.square(difference), axis=-1))


def negative_cosine(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Returns the negative mean cosine, SimSiam's loss.

    -mean_i p_i/||p_i|| . z_i/||z_i||

  Both sides are normalised here; the mean is over rows.

  Args:
    prediction: p, [b, d], of one view.
    target: z, [b, d], of another view of the same images.

  Returns:
    float32 scalar in [-1, 1]: 0 for unrelated directions and for zero vectors.

  Reference:
    Chen & He 2020 (arXiv 2011.10566), equation 1; facebookresearch/simsiam,
    main_simsiam.py. The loss is the mean of two such terms, one a view.
  """
  cosines = jnp.sum(l2_normalize(prediction) * l2_normalize(target), axis=-1)
  return -jnp.mean(cosines)
