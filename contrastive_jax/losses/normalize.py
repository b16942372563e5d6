"""Unit vectors, with a gradient that stays finite at zero."""

import jax
import jax.numpy as jnp


def l2_normalize(x: jax.Array, epsilon: float = 1e-12) -> jax.Array:
  """Returns x / ||x||, in float32, over the last axis.

  Args:
    x: [..., d], of any float type.
    epsilon: floor of the squared norm; a zero vector stays zero, and so does
      its direction: the gradient there is the finite 1/sqrt(epsilon).

  Returns:
    float32 [..., d].

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> u = losses.l2_normalize(jnp.array([3.0, 4.0]))
    >>> print(f'{float(u[0]):.4f} {float(u[1]):.4f}')
    0.6000 0.8000

  Reference:
    BYOL's official code, utils/helpers.py, puts the same floor inside the
    root.
  """
  x = x.astype(jnp.float32)
  squared_norm = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squared_norm, epsilon))
