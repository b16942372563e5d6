"""VICReg's loss: views alike, dimensions that vary and do not correlate."""

import math

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks, gather

# What the two views' variance terms are multiplied by before they are added.
_VARIANCE_FACTORS = {'code': 0.5, 'paper': 1.0}

# Added to the variance before the root is taken.
_EPSILON = 1e-4


def vicreg(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  similarity_weight: float = 25.0,
  variance_weight: float = 25.0,
  covariance_weight: float = 1.0,
  variance_form: str = 'code',
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the weighted sum of VICReg's three terms.

  With Cov(z) the unbiased d x d covariance over the N images of the global
  batch, and S_j(z) = sqrt(Cov(z)_jj + 1e-4):

    similarity  mean over images and dimensions of (z_a - z_b)^2
    variance    f [v(z_a) + v(z_b)],  v(z) = mean_j max(0, 1 - S_j(z))
    covariance  c(z_a) + c(z_b),      c(z) = sum_{i != j} Cov(z)_ij^2 / d

  where f is 1/2 in the official code and 1 in the paper. Embeddings are not
  normalized, neither here nor before.

  Args:
    z_a: [b, d], projections of the first view of this replica's images.
    z_b: [b, d], of the second view, in the same order.
    similarity_weight: lambda of the paper.
    variance_weight: mu.
    covariance_weight: nu.
    variance_form: 'code' or 'paper'.
    axis_name: the mapped axis over whose replicas the covariances are
      averaged, with gradient: the mean over replicas of the value, and of its
      gradients, is that of one device with the whole batch. None: this
      replica's images are the whole batch.

  Returns:
    float32 scalar. `chance_value` for constant embeddings.

  Raises:
    ValueError: another variance_form, a global batch of one image, or shapes
      that differ.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.ones((4, 8))  # constant: only the variance counts, 25 * 0.99
    >>> print(f'{float(losses.vicreg(z, z)):.2f}')
    24.75

  Reference:
    Bardes et al. 2021 (arXiv 2105.04906), equations 1 to 6; official code
    facebookresearch/vicreg, main_vicreg.py (issues 8 and 26 are about f).
  """
  loss, _ = vicreg_and_terms(
    z_a,
    z_b,
    similarity_weight=similarity_weight,
    variance_weight=variance_weight,
    covariance_weight=covariance_weight,
    variance_form=variance_form,
    axis_name=axis_name,
  )
  return loss


def vicreg_and_terms(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  similarity_weight: float = 25.0,
  variance_weight: float = 25.0,
  covariance_weight: float = 1.0,
  variance_form: str = 'code',
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `vicreg` and the terms that it is made of.

  Args:
    z_a: [b, d], see `vicreg`.
    z_b: [b, d].
    similarity_weight: see `vicreg`, also for the others.
    variance_weight: a number.
    covariance_weight: a number.
    variance_form: 'code' or 'paper'.
    axis_name: see `vicreg`.

  Returns:
    The loss, and float32 scalars without gradient: similarity_term,
    variance_term and covariance_term, without their weights, and mean_std, the
    mean of S_j over dimensions and views.

  Raises:
    ValueError: see `vicreg`.
  """
  checks.shapes('vicreg', z_a=(z_a, 'b d'), z_b=(z_b, 'b d'))
  factor = _variance_factor(variance_form)
  z_a, z_b = z_a.astype(jnp.float32), z_b.astype(jnp.float32)
  similarity = jnp.mean(jnp.square(z_a - z_b))
  spreads = [spread(z, axis_name) for z in (z_a, z_b)]
  variances, covariances, stds = zip(*spreads, strict=True)
  variance, covariance = factor * sum(variances), sum(covariances)
  loss = (
    similarity_weight * similarity
    + variance_weight * variance
    + covariance_weight * covariance
  )
  terms = {
    'similarity_term': similarity,
    'variance_term': variance,
    'covariance_term': covariance,
    'mean_std': jnp.mean(jnp.stack(stds)),
  }
  return loss, jax.lax.stop_gradient(terms)


def chance_value(*, variance_weight: float, variance_form: str) -> float:
  """Returns `vicreg` of constant embeddings.

  Args:
    variance_weight: see `vicreg`.
    variance_form: 'code' or 'paper'.

  Returns:
    2 f x 0.99 x variance_weight: 24.75 (code) or 49.5 (paper) at 25. The other
    terms are 0.

  Raises:
    ValueError: another variance_form.
  """
  floor = math.sqrt(_EPSILON)
  return variance_weight * 2 * _variance_factor(variance_form) * (1 - floor)


def _variance_factor(variance_form: str) -> float:
  if variance_form not in _VARIANCE_FACTORS:
    raise ValueError(
      f"variance_form is 'code' or 'paper', not {variance_form!r}"
    )
  return _VARIANCE_FACTORS[variance_form]


def spread(
  z: jax.Array, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns v(z) and c(z) of `vicreg`, and the mean of S_j(z).

  Args:
    z: float32 [b, d], this replica's rows.
    axis_name: see `vicreg`.
  """
  covariance = _covariance(z, axis_name)
  std = jnp.sqrt(jnp.diagonal(covariance) + _EPSILON)
  d = z.shape[-1]
  off_diagonal = jnp.where(~jnp.eye(d, dtype=bool), jnp.square(covariance), 0)
  return (
    jnp.mean(jax.nn.relu(1 - std)),
    jnp.sum(off_diagonal) / d,
    jnp.mean(std),
  )


def _covariance(z: jax.Array, axis_name: str | None) -> jax.Array:
  """The unbiased [d, d] covariance of the global batch's rows."""
  rows = len(z)
  total = rows if axis_name is None else rows * jax.lax.axis_size(axis_name)
  if total < 2:
    raise ValueError(f'a batch of {total} image has no covariance')
  deviation = z - gather.mean(jnp.mean(z, axis=0), axis_name)
  product = jnp.matmul(
    deviation.T, deviation, precision=jax.lax.Precision.HIGHEST
  )
  covariance = gather.mean(product / rows, axis_name) * (total / (total - 1))
  if axis_name is None:
    return covariance
  # It is the same everywhere, but each replica's loss is a loss of its own:
  # otherwise shard_map's gradient would be 1/R of the true one.
  return jax.lax.pcast(covariance, axis_name, to='varying')
