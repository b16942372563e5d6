"""Noise-contrastive estimation of a model that need not be normalised."""

import math

import jax
import jax.numpy as jnp


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

  The model's log density may have the negative logarithm of its normaliser as
  a parameter: it is learned like the others.

  Args:
    log_model_data: [n], ln p_model of the data.
    log_noise_data: [n], ln p_noise of the data, normalised.
    log_model_noise: [m], ln p_model of the noise.
    log_noise_noise: [m], ln p_noise of the noise.
    noise_ratio: nu, noise samples for each of the data: m / n. The larger, the
      nearer to maximum likelihood.

  Returns:
    float32 scalar, to be minimised: ln(1 + nu) + nu ln(1 + 1/nu) where the
    model is the noise's density.

  Raises:
    ValueError: the noise ratio is not positive, or the two log densities are
      not of the same samples.

  Reference:
    Gutmann & Hyvarinen 2010 (AISTATS), section 2; 2012 (JMLR 13), section 2,
    for nu other than 1.
  """
  if not noise_ratio > 0:
    raise ValueError(f'noise_ratio is {noise_ratio}, not positive')
  for model, noise, name in (
    (log_model_data, log_noise_data, 'data'),
    (log_model_noise, log_noise_noise, 'noise'),
  ):
    if model.shape != noise.shape:
      raise ValueError(
        f'log densities of the {name} have shape {model.shape} under the '
        f'model, but {noise.shape} under the noise'
      )
  log_ratio = math.log(noise_ratio)
  data = (log_model_data - log_noise_data).astype(jnp.float32) - log_ratio
  noise = (log_model_noise - log_noise_noise).astype(jnp.float32) - log_ratio
  return jnp.mean(jax.nn.softplus(-data)) + noise_ratio * jnp.mean(
    jax.nn.softplus(noise)
  )
