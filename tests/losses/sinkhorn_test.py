import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax.losses._sinkhorn import sinkhorn

RNG = np.random.default_rng(0)
SCORES = np.tanh(RNG.normal(size=(16, 5))).astype(np.float32)
QUEUE = np.tanh(RNG.normal(size=(8, 5))).astype(np.float32)


def oracle(scores, epsilon, iterations):
  """The official steps, in float64, entry by entry: [B, K] to codes."""
  samples, prototypes = scores.shape
  q = np.exp(scores.astype(np.float64) / epsilon)
  q /= q.sum()
  for _ in range(iterations):
    for k in range(prototypes):
      q[:, k] /= q[:, k].sum() * prototypes
    for n in range(samples):
      q[n] /= q[n].sum() * samples
  return q * samples


@pytest.mark.parametrize('iterations', [1, 3, 10])
@pytest.mark.parametrize('epsilon', [0.05, 0.5])
def test_equals_the_official_steps(epsilon, iterations):
  codes = sinkhorn(SCORES, epsilon=epsilon, iterations=iterations)
  np.testing.assert_allclose(
    codes, oracle(SCORES, epsilon, iterations), rtol=1e-4, atol=1e-7
  )


def test_the_queue_takes_part_and_is_left_out():
  codes = sinkhorn(SCORES, epsilon=0.1, queue_scores=QUEUE)
  expected = oracle(np.concatenate([QUEUE, SCORES]), 0.1, 3)[len(QUEUE) :]
  np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-7)


def test_prototypes_end_with_equal_totals_and_samples_with_1():
  codes = sinkhorn(SCORES, epsilon=0.5, iterations=100)
  np.testing.assert_allclose(codes.sum(axis=0), 16 / 5, rtol=1e-5)
  np.testing.assert_allclose(codes.sum(axis=1), 1, rtol=1e-5)


def test_without_iterations_it_is_a_softmax():
  codes = sinkhorn(SCORES, epsilon=0.5, iterations=0)
  np.testing.assert_allclose(codes, jax.nn.softmax(SCORES / 0.5), rtol=1e-5)


def test_a_small_case_written_out():
  """DINOv2's three iterations, at a temperature of 0.5."""
  scores = np.array([[1, 0, 0], [0, 1, 0], [1, 0.5, 0], [0, 0, 1]], np.float32)
  expected = [
    [0.676462, 0.141913, 0.181624],
    [0.069262, 0.793329, 0.137409],
    [0.543847, 0.310135, 0.146018],
    [0.058108, 0.090075, 0.851817],
  ]
  codes = sinkhorn(scores, epsilon=0.5)
  np.testing.assert_allclose(codes, expected, atol=1e-6)
  # Prototypes are not quite even yet.
  np.testing.assert_allclose(
    codes.sum(axis=0), [1.348, 1.335, 1.317], atol=1e-3
  )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
  'scores',
  [0 * SCORES, 0 * SCORES + 1e4, 1e4 * SCORES, 1e4 * np.eye(16, 5)],
  ids=['zeros', 'constant', '1e4', 'one each'],
)
def test_no_score_is_too_large(scores, dtype):
  scores = jnp.asarray(scores, dtype)
  for queue in (None, scores[:4]):
    codes = sinkhorn(scores, epsilon=0.01, queue_scores=queue)
    assert codes.dtype == jnp.float32
    assert (codes >= 0).all()  # false for NaN
    np.testing.assert_allclose(codes.sum(axis=1), 1, rtol=1e-5)
    if not np.any(np.asarray(scores - scores[0, 0])):
      np.testing.assert_allclose(codes, 1 / 5, rtol=1e-5)


@pytest.mark.parametrize('queue', [None, QUEUE], ids=['alone', 'queue'])
def test_replicas_together_equal_one_device(queue):
  mesh = jax.make_mesh(
    (8,), ('replica',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  code = functools.partial(sinkhorn, epsilon=0.05, queue_scores=queue)
  sharded = jax.jit(
    jax.shard_map(
      functools.partial(code, axis_name='replica'),
      mesh=mesh,
      in_specs=P('replica'),
      out_specs=P('replica'),
    )
  )(SCORES)
  np.testing.assert_allclose(sharded, code(SCORES), rtol=1e-5, atol=1e-8)


def test_no_gradient():
  def total(s):
    return jnp.sum(sinkhorn(s, epsilon=0.05, queue_scores=s) * SCORES)

  assert not np.any(jax.grad(total)(SCORES))
