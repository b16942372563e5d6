import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.losses._cosine import (
  negative_cosine,
  normalized_squared_error,
)
from tests.losses import replicas

LOSSES = [normalized_squared_error, negative_cosine]


def oracle(loss, p, z):
  """The equation, in float64, one row at a time."""
  values = []
  for a, b in zip(p.astype(np.float64), z.astype(np.float64), strict=True):
    a, b = a / np.sqrt(a @ a), b / np.sqrt(b @ b)
    if loss is negative_cosine:
      values.append(-(a @ b))
    else:
      values.append(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
  return np.mean(values)


def embeddings(n=16, d=6, dtype=np.float32):
  rng = np.random.default_rng(0)
  return tuple(rng.normal(size=(n, d)).astype(dtype) for _ in range(2))


@pytest.mark.parametrize('loss', LOSSES)
def test_value_and_gradient_equal_the_equation(loss):
  p, z = embeddings(4)
  value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(p, z)
  np.testing.assert_allclose(value, oracle(loss, p, z), rtol=1e-5)
  for side, gradient in enumerate(gradients):
    for index in np.ndindex(*p.shape):
      step = np.zeros((2, *p.shape))
      step[side][index] = 1e-5
      above = oracle(loss, p + step[0], z + step[1])
      below = oracle(loss, p - step[0], z - step[1])
      np.testing.assert_allclose(
        gradient[index], (above - below) / 2e-5, atol=1e-6
      )


def test_closed_forms():
  p = np.eye(8, dtype=np.float32)
  for target, distance in ((p, 0), (np.roll(p, 1, axis=1), 2), (-p, 4)):
    np.testing.assert_allclose(
      normalized_squared_error(3 * p, target / 7), distance, atol=1e-6
    )
    np.testing.assert_allclose(
      negative_cosine(3 * p, target / 7), distance / 2 - 1, atol=1e-6
    )


@pytest.mark.parametrize('loss', LOSSES)
def test_replicas_together_equal_one_device(loss):
  rows = embeddings()
  ours = replicas.value_and_grad(lambda rows, axis_name: loss(*rows), rows)
  whole = jax.value_and_grad(lambda rows: loss(*rows))(rows)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
    ours,
    whole,
  )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('factor', [0, 1e4, 1e-20])
@pytest.mark.parametrize('loss', LOSSES)
def test_finite_in_adverse_batches(loss, factor, dtype):
  p, z = (jnp.asarray(factor * x, dtype).at[0].set(0) for x in embeddings())
  value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
  for target in (z, p, jnp.ones_like(z)):
    value, gradients = value_and_grad(p, target)
    assert value.dtype == jnp.float32
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(g).all() for g in gradients)
