"""Barlow Twins' loss: the views' dimensions correlate pairwise, and only so."""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks, gather

# Added to the variance, as by the batch norm of the official code.
_EPSILON = 1e-5


def barlow_twins(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  redundancy_weight: float = 0.0051,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the distance of a cross-correlation matrix from the identity.

  With u = (z - mean) / sqrt(variance + 1e-5), each dimension of each view over
  the N images of the global batch (biased variance), and C = u_a^T u_b / N:

    sum_i (C_ii - 1)^2  +  lambda sum_{i != j} C_ij^2

  Sums over dimensions, not means: the value grows with d.

  Args:
    z_a: [b, d], projections of the first view of this replica's images, not
      normalized.
    z_b: [b, d], of the second view, in the same order.
    redundancy_weight: lambda.
    axis_name: the mapped axis over whose replicas the statistics and C are
      averaged, with gradient; every replica returns the same value, and the
      mean of the replicas' gradients is that of one device with the whole
      batch. None: this replica's images are the whole batch.

  Returns:
    float32 scalar. d for constant embeddings; for independent views of
    decorrelated dimensions d (1 + 1/N) + lambda d (d - 1) / N on average.

  Raises:
    ValueError: the shapes differ.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    >>> loss = losses.barlow_twins(z, z)  # decorrelated, and views agree
    >>> print(f'{float(loss):.4f}')
    0.0000
    >>> loss = losses.barlow_twins(z, -z)  # each correlation is -1: d * 4
    >>> print(f'{float(loss):.2f}')
    8.00

  Reference:
    Zbontar et al. 2021 (arXiv 2103.03230), equation 1; official code
    facebookresearch/barlowtwins, main.py. Its all-reduce of C carries no
    gradient, so that with R processes its gradient is 1/R of this one.
  """
  loss, _ = barlow_twins_and_terms(
    z_a, z_b, redundancy_weight=redundancy_weight, axis_name=axis_name
  )
  return loss


def barlow_twins_and_terms(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  redundancy_weight: float = 0.0051,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `barlow_twins` and the two sums that it is made of.

  Args:
    z_a: [b, d], see `barlow_twins`.
    z_b: [b, d].
    redundancy_weight: lambda.
    axis_name: see `barlow_twins`.

  Returns:
    The loss, and float32 scalars without gradient: invariance_term (the
    diagonal's sum) and redundancy_term (the others', without lambda).

  Raises:
    ValueError: see `barlow_twins`.
  """
  checks.shapes('barlow_twins', z_a=(z_a, 'b d'), z_b=(z_b, 'b d'))
  u_a, u_b = _standardized(z_a, axis_name), _standardized(z_b, axis_name)
  rows, d = u_a.shape
  correlation = gather.mean(
    jnp.matmul(u_a.T, u_b, precision=jax.lax.Precision.HIGHEST) / rows,
    axis_name,
  )
  if axis_name is not None:
    # It is the same everywhere, but each replica's loss is a loss of its own:
    # otherwise shard_map's gradient would be 1/R of the true one.
    correlation = jax.lax.pcast(correlation, axis_name, to='varying')
  diagonal = jnp.eye(d, dtype=bool)
  invariance = jnp.sum(jnp.where(diagonal, jnp.square(correlation - 1), 0))
  redundancy = jnp.sum(jnp.where(diagonal, 0, jnp.square(correlation)))
  terms = {'invariance_term': invariance, 'redundancy_term': redundancy}
  loss = invariance + redundancy_weight * redundancy
  return loss, jax.lax.stop_gradient(terms)


def _standardized(z: jax.Array, axis_name: str | None) -> jax.Array:
  """[b, d] with mean 0 and variance 1 over the global batch, in float32."""
  z = z.astype(jnp.float32)
  deviation = z - gather.mean(jnp.mean(z, axis=0), axis_name)
  variance = gather.mean(jnp.mean(jnp.square(deviation), axis=0), axis_name)
  return deviation * jax.lax.rsqrt(variance + _EPSILON)
