import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.losses import negatives
from contrastive_jax.losses._clip import clip, clip_and_statistics
from tests.losses import replicas


def logits(z_a, z_b, temperature):
  u_a, u_b = (
    z.astype(np.float64) / np.linalg.norm(z, axis=1, keepdims=True)
    for z in (z_a, z_b)
  )
  return u_a @ u_b.T / temperature


def oracle(z_a, z_b, temperature):
  """Figure 3 of the paper, in float64: both axes' cross entropies over 2."""
  x = logits(z_a, z_b, temperature)
  losses = [
    np.mean(np.log(np.sum(np.exp(x), axis)) - np.diag(x)) for axis in (0, 1)
  ]
  return np.mean(losses)


def embeddings(n, d):
  rng = np.random.default_rng(0)
  return tuple(rng.normal(size=(n, d)).astype(np.float32) for _ in range(2))


@pytest.mark.parametrize('n', [1, 7, 600])  # 600: two blocks a modality
@pytest.mark.parametrize('temperature', [0.01, 1.0])
def test_equals_the_figure(n, temperature):
  z = embeddings(n, 16)
  loss = clip(*z, temperature=temperature)
  np.testing.assert_allclose(
    loss, oracle(*z, temperature), rtol=1e-5, atol=1e-6
  )


def test_gradient_equals_finite_differences_of_the_figure():
  z_a, z_b = embeddings(4, 3)
  by_a, by_b, by_t = jax.grad(
    lambda a, b, t: clip(a, b, temperature=t), argnums=(0, 1, 2)
  )(z_a, z_b, jnp.float32(0.5))
  for index in np.ndindex(*z_a.shape):
    step = np.zeros(z_a.shape)
    step[index] = 1e-5
    slope = (oracle(z_a + step, z_b, 0.5) - oracle(z_a - step, z_b, 0.5)) / 2e-5
    np.testing.assert_allclose(by_a[index], slope, atol=1e-6)
    slope = (oracle(z_a, z_b + step, 0.5) - oracle(z_a, z_b - step, 0.5)) / 2e-5
    np.testing.assert_allclose(by_b[index], slope, atol=1e-6)
  slope = (oracle(z_a, z_b, 0.5 + 1e-5) - oracle(z_a, z_b, 0.5 - 1e-5)) / 2e-5
  np.testing.assert_allclose(by_t, slope, rtol=1e-5)


def test_closed_forms():
  same, eye = np.ones((8, 4), np.float32), np.eye(8, dtype=np.float32)
  np.testing.assert_allclose(
    clip(same, same, temperature=0.07), math.log(8), rtol=1e-5
  )
  np.testing.assert_allclose(
    clip(eye, eye, temperature=0.5), math.log(math.exp(2) + 7) - 2, rtol=1e-5
  )


def test_statistics_are_of_the_other_modality():
  z = embeddings(7, 4)
  _, statistics = clip_and_statistics(*z, temperature=0.2)
  x = logits(*z, 0.2)
  both = np.concatenate([x, x.T])
  is_positive = np.tile(np.eye(7, dtype=bool), (2, 1))
  hardest = np.where(is_positive, -np.inf, both).max(1)
  p = np.exp(both) / np.exp(both).sum(1, keepdims=True)
  expected = {
    'contrastive_accuracy': np.mean(both[is_positive] > hardest),
    'entropy': np.mean(-np.sum(p * np.log(p), 1)),
    'positive_similarity': 0.2 * np.mean(both[is_positive]),
    'hardest_negative_similarity': 0.2 * np.mean(hardest),
  }
  assert statistics.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(statistics[name], value, 1e-5, err_msg=name)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
@pytest.mark.parametrize('block', [512, 8])
def test_replicas_together_equal_one_device(block, mapping, monkeypatch):
  monkeypatch.setattr(negatives, '_BLOCK_ROWS', block)
  rows = embeddings(48, 8)

  def loss(rows, axis_name=None):
    return clip(*rows, temperature=0.1, axis_name=axis_name)

  ours = replicas.value_and_grad(loss, rows, mapping=mapping)
  replicas.assert_same(ours, jax.value_and_grad(loss)(rows))


def test_replicas_together_learn_one_temperature():
  z = embeddings(16, 8)

  def loss(temperature, axis_name=None, z=z):
    return clip(*z, temperature=temperature, axis_name=axis_name)

  def local(z_a, z_b):
    temperature = jax.lax.pcast(jnp.float32(0.1), 'replica', to='varying')
    gradient = jax.grad(functools.partial(loss, z=(z_a, z_b)))(
      temperature, axis_name='replica'
    )
    return jax.lax.pmean(gradient, 'replica')

  rows = jax.sharding.PartitionSpec('replica')
  mapped = jax.shard_map(
    local,
    mesh=replicas.make_mesh(jax.devices()[:4]),
    in_specs=rows,
    out_specs=jax.sharding.PartitionSpec(),
  )
  np.testing.assert_allclose(
    jax.jit(mapped)(*z), jax.grad(loss)(jnp.float32(0.1)), rtol=1e-5
  )


def test_eight_thousand_pairs_take_less_than_a_gibibyte():
  """Beside the towers, gradient and statistics included."""
  z = jax.ShapeDtypeStruct((8192, 512), jnp.float32)
  loss = functools.partial(clip_and_statistics, temperature=0.07)
  both = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  memory = jax.jit(both).lower(z, z).compile().memory_analysis()
  assert memory is not None
  assert memory.temp_size_in_bytes < 0.25 * 2**30  # all logits would be that
