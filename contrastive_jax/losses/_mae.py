"""MAE's loss: the squared error of pixels that the encoder did not see."""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks

_EPSILON = 1e-6


def mae(predicted: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns the mean squared error of the patches that were left out.

  Nothing is gathered, so there is no axis: the mean of the replicas' values,
  and of their gradients, is that of the whole batch.

  Args:
    predicted: [b, n, p], the values of n patches of each image.
    targets: [b, n, p], of the image. No gradient reaches them.

  Returns:
    float32 scalar. (p - 1) / p for predictions of 0 where targets come from
    `normalize_patches` and no patch is constant: 0.998698 for p = 768.

  Raises:
    ValueError: shapes differ.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> patches = jnp.arange(12.0).reshape(1, 3, 4)
    >>> targets = losses.normalize_patches(patches)
    >>> print(f'{float(losses.mae(jnp.zeros_like(targets), targets)):.4f}')
    0.7500

  Reference: He et al. 2021 (arXiv 2111.06377), section 3; mae models_mae.py,
  forward_loss.
  """
  checks.shapes(
    'mae', predicted=(predicted, 'b n p'), targets=(targets, 'b n p')
  )
  targets = jax.lax.stop_gradient(targets).astype(jnp.float32)
  return jnp.mean(jnp.square(predicted.astype(jnp.float32) - targets))


def normalize_patches(patches: jax.Array) -> jax.Array:
  """Returns patches less their own mean, over their own standard deviation.

  Args:
    patches: [b, n, p], p > 1 values each.

  Returns:
    float32 [b, n, p]; the variance is the unbiased one, plus 1e-6, as official.

  Raises:
    ValueError: the shape is another.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> print(losses.normalize_patches(jnp.array([[[1.0, 2, 3]]])).round(3))
    [[[-1.  0.  1.]]]

  Reference: see `mae`.
  """
  checks.shapes('normalize_patches', patches=(patches, 'b n p'))
  patches = patches.astype(jnp.float32)
  deviation = patches - jnp.mean(patches, axis=-1, keepdims=True)
  variance = jnp.sum(jnp.square(deviation), axis=-1, keepdims=True)
  variance /= patches.shape[-1] - 1
  return deviation * jax.lax.rsqrt(variance + _EPSILON)
