import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax.losses._sinkhorn import sinkhorn
from contrastive_jax.losses._swav import (
  assignment_statistics,
  cross_prediction,
  swav,
)

RNG = np.random.default_rng(0)


def cosines(*shape):
  return np.tanh(RNG.normal(size=shape)).astype(np.float32)


SCORES = tuple(cosines(8, 6) for _ in range(4))
QUEUE = (cosines(16, 6), cosines(16, 6))


def oracle(scores, codes, temperature):
  """The equation, in float64, pair by pair and sample by sample."""
  terms = []
  for i, code in enumerate(codes):
    for v, score in enumerate(scores):
      if v == i:
        continue
      for q, s in zip(code, score.astype(np.float64), strict=True):
        p = np.exp(s / temperature) / np.exp(s / temperature).sum()
        terms.append(-np.sum(np.asarray(q, np.float64) * np.log(p)))
  return np.mean(terms)


@pytest.mark.parametrize('crops', [2, 4])
def test_equals_the_equation(crops):
  codes = [sinkhorn(s, epsilon=0.05) for s in SCORES[:2]]
  np.testing.assert_allclose(
    swav(SCORES[:crops], temperature=0.1),
    oracle(SCORES[:crops], codes, 0.1),
    rtol=1e-5,
  )


def test_gradient_takes_the_codes_for_constants():
  codes = [sinkhorn(s, epsilon=0.05) for s in SCORES[:2]]
  gradient = jax.grad(swav)(SCORES[:3], temperature=0.5)
  for v, n, k in [(0, 0, 0), (1, 3, 2), (2, 7, 5)]:
    values = []
    for step in (1e-5, -1e-5):
      moved = [np.asarray(s, np.float64) for s in SCORES[:3]]
      moved[v][n, k] += step
      values.append(oracle(moved, codes, 0.5))
    slope = (values[0] - values[1]) / 2e-5
    np.testing.assert_allclose(gradient[v][n, k], slope, rtol=1e-4, atol=1e-7)


def test_constant_scores_are_chance():
  same = (jnp.full((8, 3000), 0.7),) * 3
  np.testing.assert_allclose(
    swav(same, temperature=0.1), math.log(3000), rtol=1e-5
  )


def test_a_queue_that_is_not_used_is_not_there():
  loss = jax.jit(functools.partial(swav, temperature=0.1, epsilon=0.05))
  without = loss(SCORES)
  unused, used = (
    loss(SCORES, queue_scores=QUEUE, use_queue=use) for use in (False, True)
  )
  np.testing.assert_array_equal(unused, without)
  codes = [
    sinkhorn(s, epsilon=0.05, queue_scores=q)
    for s, q in zip(SCORES, QUEUE, strict=False)
  ]
  np.testing.assert_allclose(used, oracle(SCORES, codes, 0.1), rtol=1e-5)
  assert abs(used - without) > 1e-3


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
  'fill',
  [lambda s: 0 * s, lambda s: 0 * s + 1, lambda s: 1e4 * s],
  ids=['zeros', 'constant', '1e4'],
)
def test_finite_in_adverse_batches(fill, dtype):
  scores = [fill(jnp.asarray(s, dtype)) for s in SCORES]
  loss, gradient = jax.value_and_grad(swav)(
    scores, temperature=0.01, epsilon=0.01
  )
  assert loss.dtype == jnp.float32
  assert jnp.isfinite(loss)
  assert all(jnp.isfinite(g).all() for g in gradient)
  statistics = assignment_statistics(scores[0] / 0.01)
  assert all(jnp.isfinite(value) for value in statistics.values())


def test_replicas_together_equal_one_device():
  mesh = jax.make_mesh(
    (8,), ('replica',), axis_types=(jax.sharding.AxisType.Auto,)
  )

  def both(scores, axis_name=None):
    loss, gradient = jax.value_and_grad(
      functools.partial(
        swav, temperature=0.1, queue_scores=QUEUE, axis_name=axis_name
      )
    )(scores)
    statistics = assignment_statistics(scores[0] / 0.1, axis_name=axis_name)
    return loss[None], gradient, statistics

  losses, gradient, statistics = jax.jit(
    jax.shard_map(
      functools.partial(both, axis_name='replica'),
      mesh=mesh,
      in_specs=P('replica'),
      out_specs=(P('replica'), P('replica'), P()),
    )
  )(SCORES)
  whole = both(SCORES)
  np.testing.assert_allclose(np.mean(losses), whole[0][0], rtol=1e-5)
  for ours, theirs in zip(gradient, whole[1], strict=True):
    # The loss of the whole batch is the mean of the replicas' losses.
    error = np.linalg.norm(ours / 8 - theirs) / np.linalg.norm(theirs)
    assert error < 1e-5
  for name, value in whole[2].items():
    np.testing.assert_allclose(statistics[name], value, rtol=1e-5, atol=1e-6)


def test_targets_get_no_gradient_and_their_own_view_no_term():
  targets = [jax.nn.softmax(s) for s in SCORES[:2]]
  gradient = jax.grad(cross_prediction, argnums=1)(list(SCORES), targets)
  assert not any(np.any(g) for g in gradient)
  only_own = jax.grad(cross_prediction)(list(SCORES[:2]), targets[:1])
  assert not np.any(only_own[0])
  assert np.any(only_own[1])


def test_statistics_by_hand():
  # Half of the samples surely take prototype 0, the others 0 or 1 at even odds.
  logits = np.array([[0, -1e3, -1e3]] * 2 + [[0, 0, -1e3]] * 2, np.float32)
  statistics = assignment_statistics(logits)
  usage = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
  np.testing.assert_allclose(statistics['entropy'], math.log(2) / 2, rtol=1e-5)
  np.testing.assert_allclose(
    statistics['prototype_usage_entropy'], usage, rtol=1e-5
  )
  np.testing.assert_allclose(
    statistics['collapse_gauge'],
    math.sqrt((usage - math.log(2) / 2) / math.log(3)),
    rtol=1e-5,
  )


@pytest.mark.parametrize('prototypes', [8, 64])
def test_the_gauge_is_low_in_both_collapses_and_high_in_neither(prototypes):
  noise = 0.02 * RNG.normal(size=(16, prototypes))
  few = noise + 100 * (np.arange(prototypes) < 1)  # one prototype takes all
  spread = noise  # every sample is everywhere
  own = noise + 100 * np.eye(16, prototypes)[np.arange(16) % prototypes]
  gauges = {
    name: assignment_statistics(jnp.asarray(logits))
    for name, logits in dict(few=few, spread=spread, own=own).items()
  }
  assert gauges['few']['collapse_gauge'] < 0.02
  assert gauges['spread']['collapse_gauge'] < 0.02
  assert gauges['own']['collapse_gauge'] > 0.99
  # The usage alone would call the second one healthy.
  assert gauges['spread']['prototype_usage_entropy'] > 0.99 * math.log(
    prototypes
  )
