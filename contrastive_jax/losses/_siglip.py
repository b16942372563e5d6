"""SigLIP's loss: is this text that image's? Asked of every pair by itself.

No pair's answer depends on another, so nothing has to be gathered: the texts go
around the devices, one block at a time.
"""

import functools

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks
from contrastive_jax.losses.normalize import l2_normalize


def siglip(
  z_a: jax.Array,
  z_b: jax.Array,
  *,
  scale: float | jax.Array,
  bias: float | jax.Array,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the sigmoid loss of all pairs of two modalities of one batch.

  With u = z_a/||z_a|| of N images, v = z_b/||z_b|| of their N texts, and
  y_ij = 1 where i = j and -1 elsewhere:

    -(1 / N) sum_ij log sigmoid( y_ij (scale u_i.v_j + bias) )

  a mean over images of a sum over texts. Embeddings are normalized here.

  Args:
    z_a: [b, d], embeddings of this replica's images.
    z_b: [b, d], of their texts, in the same order.
    scale: factor of the cosines, positive. The paper learns its logarithm.
    bias: added to all logits, learned; the paper begins at -10.
    axis_name: the mapped axis around which the texts go. Of the other replicas'
      texts one block is held at a time, in the backward pass as well. The value
      is the mean over this replica's images: its mean over replicas, and the
      mean of its gradients, are those of one device with the whole batch. None:
      this replica's pairs are the whole batch.

  Returns:
    float32 scalar. ln N + (N - 1) ln(N / (N - 1)) where all cosines are 0 and
    the bias is at its best for that, -ln(N - 1).

  Raises:
    ValueError: the shapes differ.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z = jnp.ones((4, 8))  # all alike, logits 0: 4 ln 2
    >>> loss = losses.siglip(z, z, scale=10.0, bias=-10.0)
    >>> print(f'{float(loss):.4f}')
    2.7726

  Reference:
    Zhai et al. 2023 (arXiv 2303.15343), algorithm 1 and figure 1, the
    "chunked" form; google-research/big_vision,
    trainers/proj/image_text/siglip.py.
  """
  checks.shapes('siglip', z_a=(z_a, 'b d'), z_b=(z_b, 'b d'))
  checks.positive('siglip', scale=scale)
  u, v = l2_normalize(z_a), l2_normalize(z_b)
  scale, bias = jnp.asarray(scale, u.dtype), jnp.asarray(bias, u.dtype)
  # -log sigmoid(-x) of all pairs, and for the own text -log sigmoid(x), which
  # is that less x: no matrix of labels.
  own = scale * jnp.sum(u * v, axis=1) + bias
  total: jax.Array = _all_pairs(
    scale * u, v, bias + jnp.zeros_like(u[:, 0]), axis_name
  )
  return (total - jnp.sum(own)) / len(u)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _all_pairs(
  u: jax.Array, v: jax.Array, bias: jax.Array, axis_name: str | None
) -> jax.Array:
  """The sum of softplus(u_i.v_j + bias_i) over this replica's i and all j."""

  def add_block(carry, _):
    v, total = carry
    logits = _logits(u, v, bias)
    return (_next(v, axis_name), total + jnp.sum(jax.nn.softplus(logits))), None

  zero = jnp.sum(jnp.zeros_like(u))  # of u's kind: shard_map checks the loop
  (_, total), _ = jax.lax.scan(add_block, (v, zero), length=_size(axis_name))
  return total


def _forward(u, v, bias, axis_name):
  return _all_pairs(u, v, bias, axis_name), (u, v, bias)


def _backward(axis_name, residuals, cotangent):
  """Each block of texts goes around with its gradient, and comes home."""
  u, v, bias = residuals

  def add_block(carry, _):
    v, dv, du, dbias = carry
    # d softplus(x) = sigmoid(x)
    g = cotangent * jax.nn.sigmoid(_logits(u, v, bias))
    dv = dv + _product(g.T, u)
    du = du + _product(g, v)
    dbias = dbias + jnp.sum(g, axis=1)
    return (_next(v, axis_name), _next(dv, axis_name), du, dbias), None

  zeros = (jnp.zeros_like(x) for x in (v, u, bias))
  (_, dv, du, dbias), _ = jax.lax.scan(
    add_block, (v, *zeros), length=_size(axis_name)
  )
  return du, dv, dbias


_all_pairs.defvjp(_forward, _backward)


def _size(axis_name: str | None) -> int:
  return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def _next(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Hands rows to the next replica."""
  if axis_name is None:
    return x
  size = _size(axis_name)
  around = [(i, (i + 1) % size) for i in range(size)]
  return jax.lax.ppermute(x, axis_name, around)


def _logits(u, v, bias):
  return _product(u, v.T) + bias[:, None]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
  # TPUs multiply float32 matrices in bfloat16 unless told otherwise.
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
