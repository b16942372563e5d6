"""KoLeo: embeddings as far from their nearest neighbors as they can be."""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks, gather
from contrastive_jax.losses.normalize import l2_normalize

_EPSILON = 1e-8


def koleo(
  z: jax.Array, *, group: int = 0, axis_name: str | None = None
) -> jax.Array:
  """Returns minus the mean log distance of embeddings to their nearest.

    -mean_n log( ||x_n - x_nn(n)|| ),  x = z / ||z||

  An estimate of the entropy's negative on the sphere (Kozachenko & Leonenko).
  All in float32. The choice of a neighbor has no gradient; its two ends do.

  Args:
    z: [b, d], embeddings of one view of this replica's images.
    group: examples among which neighbors are looked for, which divide b; 0: the
      whole batch, of all replicas. The official code takes each GPU's.
    axis_name: the mapped axis over whose replicas the batch is spread.

  Returns:
    float32 scalar; the mean over replicas, and of their gradients, is that of
    one device with the whole batch. 15.3956 for identical embeddings of 384
    dimensions, -ln(2) / 2 for orthogonal ones.

  Raises:
    ValueError: z is not [b, d], or of a single example, or groups do not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> print(f'{float(losses.koleo(jnp.eye(4))):.6f}')
    -0.346574

  Reference:
    Sablayrolles et al. 2018 (arXiv 1806.03198), equation 2; Oquab et al. 2023
    (DINOv2, arXiv 2304.07193), section 4; dinov2/loss/koleo_loss.py. There an
    example is kept from being its own neighbor by a similarity of -1, which
    opposite embeddings have, too: here by less, as in lightly.
  """
  checks.shapes('koleo', z=(z, 'b d'))
  x = l2_normalize(z.astype(jnp.float32))
  if group:
    if len(x) % group or group < 2:
      raise ValueError(
        f'koleo: groups of {group} do not divide the {len(x)} examples of a'
        ' device into pairs or more'
      )
    return jnp.mean(
      jax.vmap(lambda rows: _of_pool(rows, rows, 0))(
        x.reshape(-1, group, x.shape[1])
      )
    )
  pool = gather.all_rows(x, axis_name)
  if len(pool) < 2:
    raise ValueError('koleo: a batch of 1 example has no neighbors')
  return _of_pool(x, pool, gather.first_row(len(x), axis_name))


def _of_pool(x, pool, first):
  similarity = jnp.matmul(
    x, jax.lax.stop_gradient(pool).T, precision=jax.lax.Precision.HIGHEST
  )
  own = jnp.arange(len(pool)) == first + jnp.arange(len(x))[:, None]
  nearest = jnp.argmax(jnp.where(own, -2.0, similarity), axis=1)
  difference = x - pool[nearest] + _EPSILON  # so that the root has a gradient
  distance = jnp.sqrt(jnp.sum(jnp.square(difference), axis=1))
  return -jnp.mean(jnp.log(distance + _EPSILON))
