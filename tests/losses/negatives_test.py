"""Against the whole matrix in float64, and the dealing out of its blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.losses import negatives
from contrastive_jax.losses._nt_xent import nt_xent, nt_xent_and_statistics
from contrastive_jax.losses.normalize import l2_normalize
from tests.losses import replicas


def oracle(z_a, z_b, temperature, same_view):
  """Log-sum, hardest and mean logit, [2n], and the gradient of sum(log-sum)."""
  z = np.concatenate([z_a, z_b]).astype(np.float64)
  norm = np.linalg.norm(z, axis=1, keepdims=True)
  u, n = z / norm, len(z_a)
  logits = u @ u.T / temperature
  k, l = np.indices(logits.shape)
  left_out = k % n == l % n
  if not same_view:
    left_out |= k // n == l // n
  logits = np.where(left_out, -np.inf, logits)
  hardest = logits.max(1, keepdims=True)
  p = np.exp(logits - hardest)
  log_sum = hardest[:, 0] + np.log(p.sum(1))
  p /= p.sum(1, keepdims=True)
  expected = np.sum(p * np.where(left_out, 0, logits), axis=1)
  by_u = (p + p.T) @ u / temperature
  by_z = (by_u - u * np.sum(by_u * u, axis=1, keepdims=True)) / norm
  return log_sum, hardest[:, 0], expected, by_z


def embeddings(n, d, noise):
  """Two views, the second near to the first."""
  rng = np.random.default_rng(0)
  z_a, z_b = rng.normal(size=(2, n, d))
  return tuple(z.astype(np.float32) for z in (z_a, z_a + noise * z_b))


@pytest.mark.parametrize('same_view', [True, False])
@pytest.mark.parametrize('block', [512, 8])
@pytest.mark.parametrize('n', [2, 8, 21])  # 21: blocks of 7, not of 8
@pytest.mark.parametrize('temperature', [0.001, 0.01, 0.5])
def test_equals_the_whole_matrix(n, block, same_view, temperature, monkeypatch):
  monkeypatch.setattr(negatives, '_BLOCK_ROWS', block)
  z = embeddings(n, 4, noise=0.5)

  def sums(z_a, z_b):
    u_a, u_b = (l2_normalize(x) / temperature**0.5 for x in (z_a, z_b))
    found = negatives.over_negatives(u_a, u_b, same_view=same_view)
    return jnp.sum(found.log_sum), found

  (_, found), gradient = jax.value_and_grad(sums, (0, 1), has_aux=True)(*z)
  *expected, by_z = oracle(*z, temperature, same_view)
  for ours, theirs in zip(found, expected, strict=True):
    np.testing.assert_allclose(
      ours.reshape(-1), theirs, rtol=1e-5, atol=2e-6 / temperature
    )
  error = np.linalg.norm(np.concatenate(gradient) - by_z)
  # A probability's relative error is its logit's absolute error.
  assert error < (1e-5 + 1e-6 / temperature) * np.linalg.norm(by_z)


def test_an_anchor_far_from_all_others_keeps_its_negatives():
  # Logits of 1,000 among the others, of -1,000 with it, in one block.
  z_a, z_b = np.ones((2, 4, 3), np.float32)
  z_a[0] = -1
  u_a, u_b = (l2_normalize(z) / 0.001**0.5 for z in (z_a, z_b))
  found = negatives.over_negatives(u_a, u_b)
  np.testing.assert_allclose(found.log_sum[0, 0], -1000 + np.log(6), rtol=1e-6)
  np.testing.assert_allclose(found.hardest[0, 0], -1000, rtol=1e-6)
  np.testing.assert_allclose(found.expected[0, 0], -1000, rtol=1e-6)


def test_gradient_keeps_its_digits_where_the_loss_is_almost_0():
  # Orthogonal images at T = 0.06: p is exp(1/T)/(exp(1/T) + 14), about 1 - 8e-7
  # and the loss 8e-7; 1 - p in float32 would be wrong in its first digit.
  z = np.eye(8, dtype=np.float32)
  loss, by_z = jax.value_and_grad(nt_xent)(z, z, temperature=0.06)
  rest = 14 / (np.exp(1 / 0.06) + 14)
  np.testing.assert_allclose(loss, -np.log1p(-rest), rtol=1e-5)
  # Each embedding is pushed from those of the other images: (1 - p) / 14 / T
  # as their negative and the same as their anchor, from both views; mean of 16.
  off_diagonal = ~np.eye(8, dtype=bool)
  np.testing.assert_allclose(
    by_z[off_diagonal], 4 * rest / 14 / 0.06 / 16, rtol=1e-5
  )


def test_a_collapsed_batch_has_no_accuracy_by_rounding():
  z = np.tile(np.random.default_rng(0).normal(size=(1, 128)), (300, 1))
  _, statistics = nt_xent_and_statistics(z, z, temperature=0.1)
  assert statistics['contrastive_accuracy'] == 0


@pytest.mark.parametrize('same_view', [True, False])
@pytest.mark.parametrize('blocks', [1, 2, 5])
@pytest.mark.parametrize('replicas', [1, 2, 3, 8])
def test_every_block_is_made_once(blocks, replicas, same_view):
  pairs = negatives.block_pairs(blocks, same_view, replicas)
  views = np.arange(2 * blocks) // blocks
  made = np.zeros((2 * blocks, 2 * blocks), int)
  np.add.at(made, tuple(pairs.reshape(-1, 2).T), 1)
  i, j = np.indices(made.shape)
  wanted = (i <= j) & (same_view | (views[i] != views[j]))
  np.testing.assert_array_equal(made[i <= j], wanted[i <= j])
  # Below the diagonal, where nothing is summed: to fill the last round.
  assert made[i > j].sum() == -wanted.sum() % replicas
  assert len(pairs) == -(-wanted.sum() // replicas)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
@pytest.mark.parametrize('devices', [2, 4, 8])
def test_replicas_give_their_own_anchors(devices, mapping, monkeypatch):
  # 40 images in 7 blocks of 6, the last one of 4, across the replicas' borders;
  # 105 blocks do not divide by the devices, and one round is not full.
  monkeypatch.setattr(negatives, '_BLOCK_ROWS', 6)
  rows = embeddings(40, 4, noise=0.5)

  def weighted(rows, weights, axis_name=None):
    u_a, u_b = (l2_normalize(z) / 0.3 for z in rows)
    found = negatives.over_negatives(u_a, u_b, axis_name=axis_name)
    # Different for each anchor: an exchanged pair would show.
    terms = found.log_sum + jax.lax.stop_gradient(
      found.hardest + found.expected
    )
    return jnp.mean(weights.T * terms)

  weights = np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
  ours = replicas.value_and_grad(
    weighted, rows, weights, devices=devices, mapping=mapping
  )
  whole = jax.value_and_grad(weighted)(rows, weights)
  replicas.assert_same(ours, whole)
