import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.losses._info_nce import batch_info_nce, queue_info_nce
from tests.losses import replicas


def cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def queue_oracle(queries, keys, queue, temperature):
  """The equation, in float64, one query at a time."""
  losses = []
  for q, k in zip(queries, keys, strict=True):
    own = cosine(q, k) / temperature
    others = [q @ n / np.linalg.norm(q) / temperature for n in queue]
    losses.append(np.log(np.sum(np.exp([own, *others]))) - own)
  return np.mean(losses)


def batch_oracle(rows, columns, temperature):
  losses = []
  for i, u in enumerate(rows):
    logits = [cosine(u, v) / temperature for v in columns]
    losses.append(np.log(np.sum(np.exp(logits))) - logits[i])
  return np.mean(losses)


def embeddings(n, d, count=2):
  rng = np.random.default_rng(0)
  return tuple(rng.normal(size=(n, d)) for _ in range(count))


def unit_rows(n, d):
  rows = np.random.default_rng(1).normal(size=(n, d))
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def queue_loss(queue, temperature):
  return jax.jit(
    lambda q, k: queue_info_nce(q, k, queue, temperature=temperature)[0]
  )


def batch_loss(temperature, axis_name=None):
  return jax.jit(
    lambda u, v: batch_info_nce(
      u, v, temperature=temperature, axis_name=axis_name
    )[0]
  )


@pytest.mark.parametrize('temperature', [0.07, 1.0])
def test_equals_the_equation(temperature):
  a, b = embeddings(6, 8)
  queue = unit_rows(10, 8)
  np.testing.assert_allclose(
    queue_loss(queue, temperature)(a, b),
    queue_oracle(a, b, queue, temperature),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    batch_loss(temperature)(a, b), batch_oracle(a, b, temperature), rtol=1e-5
  )


def test_gradient_equals_finite_differences_of_the_equation():
  a, b = embeddings(4, 3)
  queue = unit_rows(5, 3)
  for loss, oracle in (
    (queue_loss(queue, 0.5), lambda a, b: queue_oracle(a, b, queue, 0.5)),
    (batch_loss(0.5), lambda a, b: batch_oracle(a, b, 0.5)),
  ):
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))(
      jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    )
    for side in range(2):
      for index in np.ndindex(*a.shape):
        step = np.zeros((2, *a.shape))
        step[(side, *index)] = 1e-5
        slope = oracle(a + step[0], b + step[1])
        slope = (slope - oracle(a - step[0], b - step[1])) / 2e-5
        np.testing.assert_allclose(gradient[side][index], slope, atol=1e-6)


def test_closed_forms():
  same = np.ones((8, 4), np.float32)
  queue = np.full((32, 4), 0.5, np.float32)
  np.testing.assert_allclose(
    queue_loss(queue, 0.1)(same, same), math.log(33), rtol=1e-5
  )
  np.testing.assert_allclose(
    batch_loss(0.1)(same, same), math.log(8), rtol=1e-5
  )
  eye = np.eye(8, dtype=np.float32)
  # The queue is orthogonal to the query.
  np.testing.assert_allclose(
    queue_loss(eye[4:], 1.0)(eye[:4], eye[:4]),
    math.log(1 + 4 * math.exp(-1)),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    batch_loss(0.5)(eye, eye), math.log(math.exp(2) + 7) - 2, rtol=1e-5
  )


def test_statistics_worked_by_hand():
  # Row 0 has its own column nearest; row 1's own is opposite to it.
  u = np.array([[2, 0], [0, 1]], np.float32)
  v = np.array([[3, 0], [0, -1]], np.float32)
  _, in_batch = jax.jit(lambda u, v: batch_info_nce(u, v, temperature=1.0))(
    u, v
  )
  # The same similarities: a queue with the other image's key for each.
  _, in_queue = jax.jit(
    lambda q, k, queue: queue_info_nce(q, k, queue, temperature=1.0)
  )(u[:1], v[:1], np.array([[0, -1]], np.float32))
  np.testing.assert_allclose(in_batch['contrastive_accuracy'], 0.5)
  np.testing.assert_allclose(in_batch['positive_similarity'], 0, atol=1e-7)
  np.testing.assert_allclose(in_queue['contrastive_accuracy'], 1.0)
  np.testing.assert_allclose(in_queue['positive_similarity'], 1.0)
  np.testing.assert_allclose(in_queue['hardest_negative_similarity'], 0.0)
  entropies = []
  for row in ([1, 0], [0, -1]):
    p = np.exp(row) / np.exp(row).sum()
    entropies.append(-(p * np.log(p)).sum())
  np.testing.assert_allclose(in_batch['entropy'], np.mean(entropies), rtol=1e-5)
  np.testing.assert_allclose(in_queue['entropy'], entropies[0], rtol=1e-5)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('kind', ['queue', 'batch'])
def test_finite_in_adverse_batches(kind, dtype):
  queue = jnp.asarray(unit_rows(5, 8), jnp.float32)
  loss = {'queue': queue_loss(queue, 0.01), 'batch': batch_loss(0.01)}[kind]
  function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
  a, b = embeddings(6, 8)
  one_zero = np.ones((6, 1))
  one_zero[0] = 0
  for factor, offset in (
    (1, 0),
    (0, 0),
    (one_zero, 0),
    (0, 1),  # duplicates
    (1e4, 0),
    (1e-20, 0),
  ):
    value, gradient = function(
      *(jnp.asarray(z * factor + offset, dtype) for z in (a, b))
    )
    assert value.dtype == jnp.float32
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(g).all() for g in gradient)


@pytest.mark.parametrize('kind', ['queue', 'batch'])
def test_replicas_together_equal_one_device(kind):
  rows = tuple(z.astype(np.float32) for z in embeddings(24, 8))
  queue = jnp.asarray(unit_rows(40, 8), jnp.float32)

  def loss(rows, axis_name=None):
    if kind == 'queue':
      return queue_loss(queue, 0.1)(*rows)
    return batch_loss(0.1, axis_name)(*rows)

  ours = replicas.value_and_grad(loss, rows)
  replicas.assert_same(ours, jax.jit(jax.value_and_grad(loss))(rows))
