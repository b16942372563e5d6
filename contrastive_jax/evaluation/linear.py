"""Linear probe whose result does not hang on a hand-picked learning rate."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.evaluation import features as features_lib

# Relative to the largest eigenvalue of the features' covariance (see
# `fit_probe`), so that one grid covers features of any scale and dimension.
LEARNING_RATES = (0.1, 0.3, 1.0, 3.0)
WEIGHT_DECAYS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_MOMENTUM = 0.9
# Few examples make few steps an epoch: there are at least so many in all.
_LEAST_STEPS = 1000
# Examples held out from which on one part is enough; below: cross-validation.
_ENOUGH_HELD_OUT = 500
_FOLDS = 5


class Probe(NamedTuple):
  """A linear classifier of standardised features, and how it was chosen."""

  weights: np.ndarray  # [D, C]
  bias: np.ndarray  # [C]
  mean: np.ndarray  # [D]
  std: np.ndarray  # [D]
  learning_rate: float  # as in the grid given
  weight_decay: float
  validation_accuracy: float  # of the chosen pair, on the part held out
  accuracy: float | None = None  # on the test part; None until measured

  def predict(self, features: np.ndarray) -> np.ndarray:
    """Returns the classes, int32 [N], of features [N, D]."""
    scale = self.weights / self.std[:, None]
    logits = features @ scale + (self.bias - self.mean @ scale)
    return logits.argmax(axis=1).astype(np.int32)


def _train(
  features, labels, weights, mean, std, rates, decays, epochs, batch, key
):
  pass


@functools.partial(jax.jit, static_argnames=('num_classes', 'batch'))
def train_heads(
  features,
  labels,
  weights,
  mean,
  std,
  rates,
  decays,
  epochs,
  key,
  *,
  num_classes,
  batch,
):
  rows, dim = features.shape
  heads = len(rates)
  steps = rows // batch

  def loss_fn(params, x, y, w):
    # Heads last: with few classes the vector units stay full.
    logits = (
      jnp.matmul(x, params[0].reshape(dim, -1)).reshape(-1, num_classes, heads)
      + params[1]
    )
    logp = jax.nn.log_softmax(logits, axis=1)
    picked = jnp.take_along_axis(logp, y[:, None, None], axis=1)[:, 0]
    return -jnp.sum(w * picked) / batch

  def epoch(e, carry):
    order = jax.random.permutation(jax.random.fold_in(key, e), rows)

    def step(carry, s):
      params, trace = carry
      i = jax.lax.dynamic_slice_in_dim(order, s * batch, batch)
      x = (features[i].astype(jnp.float32) - mean) / std
      g = jax.grad(loss_fn)(params, x, labels[i], weights[i])
      g = (g[0] + decays * params[0], g[1])
      t = (e * steps + s) / (epochs * steps)
      lr = rates * 0.5 * (1 + jnp.cos(jnp.pi * t))
      trace = jax.tree.map(lambda g, m: g + _MOMENTUM * m, g, trace)
      params = jax.tree.map(
        lambda p, g, m: p - lr * (g + _MOMENTUM * m), params, g, trace
      )
      return (params, trace), None

    return jax.lax.scan(step, carry, jnp.arange(steps))[0]

  zeros = (
    jnp.zeros((dim, num_classes, heads)),
    jnp.zeros((num_classes, heads)),
  )
  return jax.lax.fori_loop(0, epochs, epoch, (zeros, zeros))[0]
