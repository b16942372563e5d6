"""VISReg: views alike, in a standard Gaussian by scale, shape and center."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from contrastive_jax.losses import checks, gather
from contrastive_jax.losses._lejepa import invariance

# Added to the standard deviation that the shape is divided by.
_EPSILON = 1e-4


def visreg(
  views: Sequence[jax.Array],
  directions: jax.Array,
  *,
  global_views: int = 2,
  weight: float = 0.9,
  scale_weight: float = 1.0,
  shape_weight: float = 1.0,
  center_weight: float = 1.0,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns (1 - weight) x invariance + weight x (scale + shape + center).

  Invariance is the mean squared distance of each view's embedding from the mean
  of the image's global views. The others are taken of each view over the N
  images of the whole batch, and averaged over views: with the mean m_j and the
  standard deviation s_j (biased) of each dimension,

    scale   mean_j (1 - s_j)^2
    center  mean_j m_j^2
    shape   of (z - m) / (stop_gradient(s) + 1e-4) in each direction, sorted:
            the mean squared distance from the quantiles of N(0, 1) at
            i / (N + 1), i = 1 .. N

  Embeddings are not normalized, neither here nor before.

  Args:
    views: [b, d] each, of this replica's images, the global ones first.
    directions: [m, d], of length 1, the same on every replica.
    global_views: how many views are.
    weight: lambda, in [0, 1].
    scale_weight: a number, and so are the next two.
    shape_weight: likewise.
    center_weight: likewise.
    axis_name: the mapped axis over whose replicas embeddings are gathered, with
      gradient. None: this replica's images are the whole batch, also where
      there are others: lightly's default, in which R devices are not one.

  Returns:
    float32 scalar; the mean over replicas, and of their gradients, is that of
    one device with the whole batch.

  Raises:
    ValueError: shapes that differ, or fewer views than global ones.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.zeros((64, 4))  # collapsed: 0.9 * (1 + 0.891808)
    >>> print(f'{float(losses.visreg((z, z), jnp.eye(4))):.4f}')
    1.7026

  Reference:
    VISReg (arXiv 2606.02572), as lightly/loss/visreg_loss.py has it (MIT).
  """
  loss, _ = visreg_and_terms(
    views,
    directions,
    global_views=global_views,
    weight=weight,
    scale_weight=scale_weight,
    shape_weight=shape_weight,
    center_weight=center_weight,
    axis_name=axis_name,
  )
  return loss


def visreg_and_terms(
  views: Sequence[jax.Array],
  directions: jax.Array,
  *,
  global_views: int = 2,
  weight: float = 0.9,
  scale_weight: float = 1.0,
  shape_weight: float = 1.0,
  center_weight: float = 1.0,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `visreg` and the terms that it is made of.

  Args:
    views: see `visreg`.
    directions: see `visreg`, also for the others.
    global_views: a number.
    weight: a number.
    scale_weight: a number.
    shape_weight: a number.
    center_weight: a number.
    axis_name: see `visreg`.

  Returns:
    The loss, and float32 scalars without gradient: invariance_term, scale_term,
    shape_term and center_term, without their weights, and mean_std, the mean of
    the standard deviations.

  Raises:
    ValueError: see `visreg`.
  """
  checks.length('visreg', 'views', views, least=global_views)
  checks.shapes(
    'visreg',
    **checks.each('views', views, 'b d'),
    directions=(directions, 'm d'),
  )
  z = jnp.stack(views).astype(jnp.float32)
  distance = invariance(z, global_views)
  terms = [
    _terms(gather.all_rows(view, axis_name), directions.astype(jnp.float32))
    for view in z
  ]
  scale, shape, off_center, std = (
    jnp.mean(jnp.stack(term)) for term in zip(*terms, strict=True)
  )
  loss = (1 - weight) * distance + weight * (
    scale_weight * scale + shape_weight * shape + center_weight * off_center
  )
  terms = {
    'invariance_term': distance,
    'scale_term': scale,
    'shape_term': shape,
    'center_term': off_center,
    'mean_std': std,
  }
  return loss, jax.lax.stop_gradient(terms)


def collapsed(examples: int) -> float:
  """Returns scale + shape + center of embeddings that are all 0.

  Args:
    examples: N, of the whole batch.
  """
  shares = np.arange(1, examples + 1) / (examples + 1)
  return 1 + float(np.mean(np.square(scipy.special.ndtri(shares))))


def _quantiles(examples: int) -> jax.Array:
  return jax.scipy.special.ndtri(
    jnp.arange(1, examples + 1, dtype=jnp.float32) / (examples + 1)
  )


def _terms(z, directions):
  """Scale, shape and center of [N, d], and the mean standard deviation."""
  mean = jnp.mean(z, axis=0)
  deviation = z - mean
  variance = jnp.mean(jnp.square(deviation), axis=0)
  # The root has no derivative at 0; there the gradient is to be 0.
  std = jnp.where(
    variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0
  )
  scaled = deviation / (jax.lax.stop_gradient(std) + _EPSILON)
  slices = jnp.matmul(scaled, directions.T, precision=jax.lax.Precision.HIGHEST)
  shape = jnp.sort(slices, axis=0) - _quantiles(len(z))[:, None]
  return (
    jnp.mean(jnp.square(1 - std)),
    jnp.mean(jnp.square(shape)),
    jnp.mean(jnp.square(mean)),
    jnp.mean(std),
  )
