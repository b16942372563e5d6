"""Noise-contrastive estimation of a model that need not be normalized."""

import math

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks


def noise_contrastive(
  log_model_data: jax.Array,
  log_noise_data: jax.Array,
  log_model_noise: jax.Array,
  log_noise_noise: jax.Array,
  noise_ratio: float,
) -> jax.Array:
  """Returns the loss of telling data from noise by their log densities.

  With G(u) = ln p_model(u) - ln p_noise(u) and h = sigmoid(G - ln nu), the
  probability that u is data:

    L = - mean_data ln h(x) - nu mean_noise ln(1 - h(y))

  The model's log density may have the negative logarithm of its normalizer as
  a parameter: it is learned like the others.

  Args:
    log_model_data: [n], ln p_model of the data.
    log_noise_data: [n], ln p_noise of the data, normalized.
    log_model_noise: [m], ln p_model of the noise.
    log_noise_noise: [m], ln p_noise of the noise.
    noise_ratio: nu, noise samples for each of the data: m / n. The larger, the
      nearer to maximum likelihood.

  Returns:
    float32 scalar, to be minimized: ln(1 + nu) + nu ln(1 + 1/nu) where the
    model is the noise's density.

  Raises:
    ValueError: the noise ratio is not positive, or the two log densities are
      not of the same samples.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> data, noise = jnp.zeros(3), jnp.zeros(6)  # the densities agree
    >>> loss = losses.noise_contrastive(data, data, noise, noise, 2)
    >>> print(f'{float(loss):.4f}')  # ln 3 + 2 ln(3 / 2)
    1.9095

  Reference:
    Gutmann & Hyvarinen 2010 (AISTATS), section 2; 2012 (JMLR 13), section 2,
    for nu other than 1.
  """
  checks.shapes(
    'noise_contrastive',
    log_model_data=(log_model_data, 'n'),
    log_noise_data=(log_noise_data, 'n'),
    log_model_noise=(log_model_noise, 'm'),
    log_noise_noise=(log_noise_noise, 'm'),
  )
  checks.positive('noise_contrastive', noise_ratio=noise_ratio)
  log_ratio = math.log(noise_ratio)
  data = (log_model_data - log_noise_data).astype(jnp.float32) - log_ratio
  noise = (log_model_noise - log_noise_noise).astype(jnp.float32) - log_ratio
  return jnp.mean(jax.nn.softplus(-data)) + noise_ratio * jnp.mean(
    jax.nn.softplus(noise)
  )
