"""SimCSE's loss: an oracle, closed forms, and replicas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses
from tests.losses import replicas

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(16, 8)).astype(np.float32) for _ in range(3))


def oracle(a, b, c, temperature, weight):
  a, b, c = (
    x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    for x in (a, b, c)
  )
  logits = np.concatenate([a @ b.T, a @ c.T], axis=1) / temperature
  n = len(a)
  logits[np.arange(n), n + np.arange(n)] += weight
  top = logits.max(1, keepdims=True)
  log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(1))
  return np.mean(log_sum - np.diag(logits))


@pytest.mark.parametrize('weight', [0.0, 1.5])
def test_the_official_form(weight):
  found, _ = losses.simcse(
    A, B, C, temperature=0.05, hard_negative_weight=weight
  )
  np.testing.assert_allclose(found, oracle(A, B, C, 0.05, weight), rtol=1e-5)


def test_closed_forms():
  eye = jnp.eye(64)
  # methods: aligned and orthonormal, ln(1 + 63 e^-20).
  value, metrics = losses.simcse(eye, eye, temperature=0.05)
  np.testing.assert_allclose(value, np.log1p(63 * np.exp(-20)), atol=2e-6)
  assert metrics['contrastive_accuracy'] == 1
  same = jnp.ones((64, 4))
  value, _ = losses.simcse(same, same, temperature=0.05)
  np.testing.assert_allclose(value, np.log(64), rtol=1e-6)
  value, _ = losses.simcse(same, same, same, temperature=0.05)
  np.testing.assert_allclose(value, np.log(128), rtol=1e-6)


def test_without_negatives_it_is_one_half_of_clip():
  """Each direction of CLIP's loss is one of these."""
  one, _ = losses.simcse(A, B, temperature=0.1)
  other, _ = losses.simcse(B, A, temperature=0.1)
  both = losses.clip(A, B, temperature=0.1)
  np.testing.assert_allclose((one + other) / 2, both, rtol=1e-5)


@pytest.mark.parametrize('negatives', [False, True])
def test_replicas_are_one(negatives):
  inputs = (A, B, C) if negatives else (A, B)

  def loss(z, axis_name=None):
    return losses.simcse(
      *z, temperature=0.1, hard_negative_weight=0.3, axis_name=axis_name
    )[0]

  whole = jax.value_and_grad(loss)(inputs)
  for mapping in ('shard_map', 'pmap'):
    ours = replicas.value_and_grad(loss, inputs, mapping=mapping)
    replicas.assert_same(ours, whole)
