"""LeJEPA's loss: views alike, in embeddings that are a standard Gaussian."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.losses import checks, gather

# Where the characteristic functions are compared: 17 knots on [0, 3], weighted
# by the trapezoidal rule for the integral over [-3, 3] and by the Gaussian.
_KNOTS = 3 * np.arange(17) / 16
_STEP = 3 / 16
_GAUSSIAN = np.exp(-np.square(_KNOTS) / 2)
_WEIGHTS = _GAUSSIAN * np.where(
  (_KNOTS == _KNOTS[0]) | (_KNOTS == _KNOTS[-1]), _STEP, 2 * _STEP
)
# `sigreg` of embeddings that are all 0, an example; and of a Gaussian sample,
# on average, whatever its size.
COLLAPSED = float(_WEIGHTS @ np.square(1 - _GAUSSIAN))
GAUSSIAN = float(_WEIGHTS @ (1 - np.exp(-np.square(_KNOTS))))


def sigreg(
  z: jax.Array, directions: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
  """Returns how far embeddings are from a standard Gaussian, by their slices.

  In each direction the test of Epps and Pulley: the squared distance of the
  empirical characteristic function from that of N(0, 1), weighted by it, times
  the number of examples. Mean over directions.

  Args:
    z: [b, d], embeddings of one view of this replica's images.
    directions: [m, d], of length 1, the same on every replica.
    axis_name: the mapped axis over whose replicas the characteristic function
      is averaged, with gradient: the value is that of the whole batch, on every
      replica. None: this replica's images are the whole batch.

  Returns:
    float32 scalar. COLLAPSED N of embeddings that are all 0, N the global batch
    (the gradient is 0 there); about GAUSSIAN of a sample of N(0, 1).

  Raises:
    ValueError: shapes that do not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.zeros((8, 4))  # collapsed: 0.402048 * 8
    >>> print(f'{float(losses.sigreg(z, jnp.eye(4))):.4f}')
    3.2164

  Reference:
    Balestriero and LeCun 2025 (arXiv 2511.08544), section 4.
  """
  checks.shapes('sigreg', z=(z, 'b d'), directions=(directions, 'm d'))

  # Recomputed in the backward pass: sines and cosines of all knots are 34
  # times as much as what they are made of.
  @jax.checkpoint
  def moments(x):
    angles = [float(t) * x for t in _KNOTS]
    cos = jnp.stack([jnp.mean(jnp.cos(a), axis=0) for a in angles])
    sin = jnp.stack([jnp.mean(jnp.sin(a), axis=0) for a in angles])
    return jnp.stack([cos, sin])

  x = jnp.matmul(
    z.astype(jnp.float32),
    directions.astype(jnp.float32).T,
    precision=jax.lax.Precision.HIGHEST,
  )
  both = gather.mean(moments(x), axis_name)
  replicas = 1
  if axis_name is not None:
    replicas = jax.lax.axis_size(axis_name)
    # They are the same everywhere, but each replica's loss is one of its own:
    # otherwise shard_map's gradient would be 1/R of the true one.
    both = jax.lax.pcast(both, axis_name, to='varying')
  cos, sin = both
  distance = jnp.square(cos - _GAUSSIAN[:, None]) + jnp.square(sin)
  weighted = jnp.asarray(_WEIGHTS, jnp.float32)[:, None] * distance
  return len(z) * replicas * jnp.mean(jnp.sum(weighted, axis=0))


def lejepa(
  views: Sequence[jax.Array],
  directions: jax.Array,
  *,
  global_views: int = 2,
  weight: float = 0.05,
  flattened: bool = False,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns (1 - weight) x invariance + weight x SIGReg.

  Invariance is the mean squared distance of each view's embedding from the mean
  of the image's global views. SIGReg is taken of each view, and averaged.
  Embeddings are not normalized, neither here nor before.

  Args:
    views: [b, d] each, the global ones first.
    directions: see `sigreg`.
    global_views: how many are.
    weight: lambda of the paper, in [0, 1].
    flattened: whether SIGReg is taken of all views as one sample, V N large.
    axis_name: see `sigreg`.

  Returns:
    float32 scalar; the mean over replicas, and of their gradients, is that of
    one device with the whole batch.

  Raises:
    ValueError: shapes that differ, or fewer views than global ones.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.zeros((8, 4))  # collapsed: 0.05 * 0.402048 * 8
    >>> print(f'{float(losses.lejepa((z, z), jnp.eye(4))):.5f}')
    0.16082

  Reference:
    Balestriero and LeCun 2025 (arXiv 2511.08544), equations 6 and 7. Author's
    MINIMAL.md takes the mean of all views for that of the global ones.
  """
  loss, _ = lejepa_and_terms(
    views,
    directions,
    global_views=global_views,
    weight=weight,
    flattened=flattened,
    axis_name=axis_name,
  )
  return loss


def lejepa_and_terms(
  views: Sequence[jax.Array],
  directions: jax.Array,
  *,
  global_views: int = 2,
  weight: float = 0.05,
  flattened: bool = False,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `lejepa` and the terms that it is made of.

  Args:
    views: see `lejepa`.
    directions: see `sigreg`.
    global_views: see `lejepa`, also for the others.
    weight: a number.
    flattened: whether views are one sample.
    axis_name: see `sigreg`.

  Returns:
    The loss, and float32 scalars without gradient: invariance_term; sigreg, of
    which 1 is a Gaussian; sigreg_collapsed, of which 1 is embeddings of 0;
    mean_std, the mean over views and dimensions of the standard deviation.

  Raises:
    ValueError: see `lejepa`.
  """
  checks.length('lejepa', 'views', views, least=global_views)
  checks.shapes(
    'lejepa',
    **checks.each('views', views, 'b d'),
    directions=(directions, 'm d'),
  )
  z = jnp.stack(views).astype(jnp.float32)
  distance = invariance(z, global_views)
  samples = [z.reshape(-1, z.shape[-1])] if flattened else list(z)
  slices = [sigreg(x, directions, axis_name=axis_name) for x in samples]
  gaussian = jnp.mean(jnp.stack(slices))
  loss = (1 - weight) * distance + weight * gaussian
  replicas = 1 if axis_name is None else jax.lax.axis_size(axis_name)
  moments = jnp.stack([jnp.mean(z, axis=1), jnp.mean(jnp.square(z), axis=1)])
  mean, square = gather.mean(jax.lax.stop_gradient(moments), axis_name)
  variance = jnp.maximum(square - jnp.square(mean), 0)
  terms = {
    'invariance_term': distance,
    'sigreg': gaussian / GAUSSIAN,
    'sigreg_collapsed': gaussian / (COLLAPSED * len(samples[0]) * replicas),
    'mean_std': jnp.mean(jnp.sqrt(variance)),
  }
  return loss, jax.lax.stop_gradient(terms)


def invariance(z: jax.Array, global_views: int) -> jax.Array:
  """Returns the mean squared distance of views from the mean of global ones.

  Args:
    z: [views, b, d], the global ones first.
    global_views: how many are.
  """
  return jnp.mean(jnp.square(z - jnp.mean(z[:global_views], axis=0)))


def directions(rng: jax.Array, number: int, dim: int) -> jax.Array:
  """Returns so many directions of length 1, float32 [number, dim].

  Args:
    rng: a key, the same on every replica.
    number: m.
    dim: of the embeddings.
  """
  drawn = jax.random.normal(rng, (number, dim))
  return drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)
