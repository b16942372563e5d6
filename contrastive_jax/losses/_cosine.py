"""Losses of a prediction against one target: BYOL's and SimSiam's.

Both compare row i with row i and gather nothing, so they take no axis: the mean
of the replicas' values, and of their gradients, is that of the whole batch.
Neither stops a gradient; the objective does.
"""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks
from contrastive_jax.losses.normalize import l2_normalize


def normalized_squared_error(
  prediction: jax.Array, target: jax.Array
) -> jax.Array:
  """Returns the mean squared distance of unit vectors, BYOL's loss.

    mean_i || p_i/||p_i|| - z_i/||z_i|| ||^2  =  mean_i 2 - 2 cos(p_i, z_i)

  Both sides are normalized here; the mean is over rows, the square summed over
  dimensions.

  Args:
    prediction: p, [b, d], of one view.
    target: z, [b, d], of another view of the same images.

  Returns:
    float32 scalar in [0, 4]: 2 for unrelated directions. A zero vector has no
    direction: its distance to a unit vector counts as 1.

  Raises:
    ValueError: the shapes differ.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> p = jnp.eye(4)
    >>> z = 3 * jnp.roll(p, 1, axis=1)  # each row is orthogonal to p's
    >>> print(f'{float(losses.normalized_squared_error(p, z)):.4f}')
    2.0000

  Reference:
    Grill et al. 2020 (arXiv 2006.07733), equation 2; deepmind-research,
    byol/utils/helpers.py. The loss of the paper and of the code is the sum of
    two such terms, one a view.
  """
  _check('normalized_squared_error', prediction, target)
  difference = l2_normalize(prediction) - l2_normalize(target)
  return jnp.mean(jnp.sum(jnp.square(difference), axis=-1))


def negative_cosine(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Returns the negative mean cosine, SimSiam's loss.

    -mean_i p_i/||p_i|| . z_i/||z_i||

  Both sides are normalized here; the mean is over rows.

  Args:
    prediction: p, [b, d], of one view.
    target: z, [b, d], of another view of the same images.

  Returns:
    float32 scalar in [-1, 1]: 0 for unrelated directions and for zero vectors.

  Raises:
    ValueError: the shapes differ.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> p = jnp.eye(4)
    >>> print(f'{float(losses.negative_cosine(p, 3 * p)):.4f}')
    -1.0000

  Reference:
    Chen & He 2020 (arXiv 2011.10566), equation 1; facebookresearch/simsiam,
    main_simsiam.py. The loss is the mean of two such terms, one a view.
  """
  _check('negative_cosine', prediction, target)
  cosines = jnp.sum(l2_normalize(prediction) * l2_normalize(target), axis=-1)
  return -jnp.mean(cosines)


def _check(loss: str, prediction: jax.Array, target: jax.Array) -> None:
  checks.shapes(loss, prediction=(prediction, 'b d'), target=(target, 'b d'))
