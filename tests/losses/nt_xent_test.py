import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive_jax.losses import negatives
from contrastive_jax.losses._nt_xent import nt_xent, nt_xent_and_statistics
from tests.losses import replicas


def oracle(z_a, z_b, temperature):
  """The equation, in float64, one anchor at a time."""
  z = np.concatenate([z_a, z_b]).astype(np.float64)
  u = z / np.linalg.norm(z, axis=1, keepdims=True)
  n = len(z_a)
  losses = []
  for i in range(2 * n):
    j = (i + n) % (2 * n)
    others = [u[i] @ u[k] / temperature for k in range(2 * n) if k != i]
    losses.append(np.log(np.sum(np.exp(others))) - u[i] @ u[j] / temperature)
  return np.mean(losses)


def embeddings(n, d, dtype=np.float32):
  rng = np.random.default_rng(0)
  return tuple(rng.normal(size=(n, d)).astype(dtype) for _ in range(2))


@pytest.mark.parametrize('n', [1, 7, 300])  # 300: two blocks, one not full
@pytest.mark.parametrize('temperature', [0.1, 1.0])
def test_equals_the_equation(n, temperature):
  z_a, z_b = embeddings(n, 16)
  loss = nt_xent(z_a, z_b, temperature=temperature)
  np.testing.assert_allclose(
    loss, oracle(z_a, z_b, temperature), rtol=1e-5, atol=1e-7
  )


def test_gradient_equals_finite_differences_of_the_equation():
  z_a, z_b = embeddings(4, 3)
  gradient = jax.grad(nt_xent)(z_a, z_b, temperature=0.5)
  for index in np.ndindex(*z_a.shape):
    step = np.zeros(z_a.shape)
    step[index] = 1e-5
    slope = (oracle(z_a + step, z_b, 0.5) - oracle(z_a - step, z_b, 0.5)) / 2e-5
    np.testing.assert_allclose(gradient[index], slope, atol=1e-6)


@pytest.mark.parametrize('n', [8, 300])
def test_equals_optax(n):
  z_a, z_b = embeddings(n, 16)

  def optax_loss(z_a, z_b):
    labels = jnp.tile(jnp.arange(n), 2)
    return optax.losses.ntxent(jnp.concatenate([z_a, z_b]), labels, 0.2)

  ours = jax.value_and_grad(
    functools.partial(nt_xent, temperature=0.2), argnums=(0, 1)
  )(z_a, z_b)
  theirs = jax.value_and_grad(optax_loss, argnums=(0, 1))(z_a, z_b)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-7),
    ours,
    theirs,
  )


def test_closed_forms():
  same = np.ones((8, 4), np.float32)
  np.testing.assert_allclose(
    nt_xent(same, same, temperature=0.1), math.log(15), rtol=1e-5
  )
  eye = np.eye(8, dtype=np.float32)
  expected = math.log(math.exp(10) + 14) - 10
  np.testing.assert_allclose(
    nt_xent(eye, eye, temperature=0.1), expected, atol=2e-6
  )


def test_statistics_of_a_batch_worked_by_hand():
  # u_a0 is nearest to its positive; u_a1's positive is opposite to it.
  z_a = np.array([[1, 0], [0, 1]], np.float32)
  z_b = np.array([[1, 0], [0, -1]], np.float32)
  _, statistics = nt_xent_and_statistics(z_a, z_b, temperature=1.0)
  np.testing.assert_allclose(statistics['contrastive_accuracy'], 0.5)
  np.testing.assert_allclose(statistics['positive_similarity'], 0.0, atol=1e-7)
  np.testing.assert_allclose(
    statistics['hardest_negative_similarity'], 0.0, atol=1e-7
  )
  rows = [[1, 0, 0], [0, 0, -1]]  # similarities of an anchor to the others
  entropies = []
  for row in rows:
    p = np.exp(row) / np.exp(row).sum()
    entropies.append(-(p * np.log(p)).sum())
  np.testing.assert_allclose(
    statistics['entropy'], np.mean(entropies), rtol=1e-5
  )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
  'fill',
  [
    lambda z: 0 * z,
    lambda z: z.at[0].set(0),
    lambda z: jnp.ones_like(z),
    lambda z: 1e4 * z,
    lambda z: 1e-20 * z,
  ],
  ids=['zeros', 'one zero', 'duplicates', '1e4', '1e-20'],
)
def test_finite_in_adverse_batches(fill, dtype):
  z_a, z_b = (fill(jnp.asarray(z, dtype)) for z in embeddings(6, 8))
  loss, gradient = jax.value_and_grad(nt_xent, argnums=(0, 1))(
    z_a, z_b, temperature=0.01
  )
  assert loss.dtype == jnp.float32
  assert jnp.isfinite(loss)
  assert all(jnp.isfinite(g).all() for g in gradient)


def test_a_pair_alone_has_nothing_to_tell_apart():
  z_a, z_b = embeddings(1, 4)
  np.testing.assert_allclose(nt_xent(z_a, z_b, temperature=0.1), 0, atol=1e-6)


@pytest.mark.parametrize('devices', [2, 8])
@pytest.mark.parametrize('block', [512, 8])
def test_replicas_together_equal_one_device(devices, block, monkeypatch):
  monkeypatch.setattr(negatives, '_BLOCK_ROWS', block)
  rows = embeddings(48, 8)  # 8 devices: 12 rows, blocks of 8 not full

  def loss(rows, axis_name=None):
    return nt_xent(*rows, temperature=0.1, axis_name=axis_name)

  ours = replicas.value_and_grad(loss, rows, devices=devices)
  replicas.assert_same(ours, jax.value_and_grad(loss)(rows))


def test_memory_is_that_of_one_block():
  def temporary_bytes(n):
    z = jax.ShapeDtypeStruct((n, 128), jnp.float32)
    compiled = (
      jax.jit(jax.value_and_grad(lambda a, b: nt_xent(a, b, temperature=0.1)))
      .lower(z, z)
      .compile()
    )
    return compiled.memory_analysis().temp_size_in_bytes

  # The whole matrix at 4,096 pairs is 8,192 x 8,192 x 4 bytes = 256 MiB.
  assert temporary_bytes(4096) < 128 * 2**20
