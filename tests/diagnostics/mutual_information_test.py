"""Against loops in float64, closed forms, Gaussians of known information."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.diagnostics import mutual_information as mi

K = 6
BASELINE = np.random.default_rng(1).normal(size=K)


def some_scores(seed=0, k=K):
  return np.random.default_rng(seed).normal(scale=2, size=(k, k))


def marginals(f):
  return [f[i, j] for i in range(len(f)) for j in range(len(f)) if i != j]


def joint(f):
  return np.mean([f[i, i] for i in range(len(f))])


def loops_info_nce(f):
  k = len(f)
  return np.mean(
    [
      f[i, i] - math.log(sum(math.exp(f[i, j]) for j in range(k)) / k)
      for i in range(k)
    ]
  )


def loops_tuba(f, log_a):
  g = np.array([[f[i, j] - log_a[i] for j in range(K)] for i in range(K)])
  return 1 + joint(g) - np.mean(np.exp(marginals(g)))


def loops_nwj(f):
  return joint(f) - np.mean(np.exp(marginals(f))) / math.e


def loops_dv(f):
  return joint(f) - math.log(np.mean(np.exp(marginals(f))))


def loops_smile(f, clip):
  return joint(f) - math.log(
    np.mean(np.clip(np.exp(marginals(f)), math.exp(-clip), math.exp(clip)))
  )


def loops_interpolated(f, alpha, log_q):
  def a(i, without):
    rest = [math.exp(f[i, k]) for k in range(K) if k != without]
    return alpha * np.mean(rest) + (1 - alpha) * math.exp(log_q[i])

  pairs = [(i, j) for i in range(K) for j in range(K) if i != j]
  return (
    1
    + np.mean([f[i, i] - math.log(a(i, j)) for i, j in pairs])
    - np.mean([math.exp(f[i, j]) / a(i, i) for i, j in pairs])
  )


ORACLES = {
  'info_nce': (mi.info_nce, loops_info_nce),
  'nwj': (mi.nwj, loops_nwj),
  'tuba': (lambda f: mi.tuba(f, BASELINE), lambda f: loops_tuba(f, BASELINE)),
  'donsker_varadhan': (mi.donsker_varadhan, loops_dv),
  'mine': (lambda f: mi.mine(f, jnp.zeros(()))[0], loops_dv),
  'jensen_shannon': (mi.jensen_shannon, loops_nwj),
  'jensen_shannon_corrected': (
    lambda f: mi.jensen_shannon(f, corrected=True),
    lambda f: loops_nwj(f + 1),
  ),
  'smile_1': (lambda f: mi.smile(f, 1), lambda f: loops_smile(f, 1)),
  'smile_inf': (lambda f: mi.smile(f, math.inf), loops_dv),
  'interpolated': (
    lambda f: mi.interpolated(f, 0.3, log_baseline=BASELINE),
    lambda f: loops_interpolated(f, 0.3, BASELINE),
  ),
}


@pytest.mark.parametrize('name', ORACLES)
def test_against_loops(name):
  estimator, oracle = ORACLES[name]
  found = jax.jit(estimator)(some_scores())
  assert found.dtype == jnp.float32
  assert float(found) == pytest.approx(oracle(some_scores()), rel=1e-5)


def hostile(k, seed):
  """Scores [n, k, k] of every size, and the worst that there can be."""
  rng = np.random.default_rng(seed)
  eye = np.eye(k, dtype=bool)
  largest = np.finfo(np.float32).max
  found = [
    rng.normal(size=(k, k)) * size + shift * eye
    for size in (0, 1e-7, 1e-3, 1, 30, 1e4, 1e30)
    for shift in (0, 1e-6, 1, 17, 1e4, 1e30)
    for _ in range(5)
  ]
  found += [
    np.where(eye, on, off)
    for on in (largest, 1e4, 0, -largest, np.inf, np.nan)
    for off in (-largest, -1e4, -100, -17, -16, 0, 1e4, -np.inf, np.nan)
  ]
  return np.array(found).astype(np.float32)


@pytest.mark.parametrize('k', [2, 3, 10, 64])
def test_info_nce_is_never_above_the_logarithm_of_k(k):
  estimate = jax.jit(jax.vmap(mi.info_nce))
  for scores in (hostile(k, 0), hostile(k, 1)):
    found = np.asarray(estimate(scores), np.float64)
    assert not (found > math.log(k)).any()
    assert np.nanmax(found) > math.log(k) - 1e-6


def test_info_nce_of_a_constant_critic():
  for value in (0.0, 3.0, -1e4, 1e4):
    found = mi.info_nce(jnp.full((K, K), value))
    assert float(found) == pytest.approx(0, abs=1e-6)


def test_large_scores():
  @jax.jit
  def all_of_them(scores):
    return {
      name: jax.value_and_grad(estimator)(scores)
      for name, (estimator, _) in ORACLES.items()
    }

  overflow = {'nwj', 'tuba', 'jensen_shannon', 'jensen_shannon_corrected'}
  for sign in (1, -1):
    found = all_of_them(jnp.asarray(sign * 1e4 * np.sign(some_scores())))
    for name, (value, gradient) in found.items():
      if name in overflow:
        assert np.isneginf(value)
      else:
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
  for name, (value, gradient) in all_of_them(jnp.full((K, K), -1e4)).items():
    assert np.isfinite(value), name
    assert np.isfinite(gradient).all(), name


@pytest.mark.parametrize('name', ['jensen_shannon', 'smile_1', 'smile_inf'])
def test_the_gradient_is_that_of_jensen_shannon(name):
  scores = some_scores()
  found = jax.grad(ORACLES[name][0])(scores)
  share = 1 / (1 + np.exp(-scores))
  expected = np.where(
    np.eye(K, dtype=bool), (1 - share) / K, -share / (K * (K - 1))
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_gradient_of_mine():
  scores, before = some_scores(), 3.0
  found, log_average = jax.grad(mi.mine, has_aux=True)(scores, jnp.log(before))
  average = 0.9 * before + 0.1 * np.mean(np.exp(marginals(scores)))
  assert float(log_average) == pytest.approx(math.log(average), rel=1e-5)
  expected = np.where(
    np.eye(K, dtype=bool), 1 / K, -np.exp(scores) / (K * (K - 1)) / average
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_interpolated_ends_at_info_nce_and_at_tuba():
  scores = some_scores()
  left_out = [
    scores[i, i]
    - math.log(np.mean([math.exp(scores[i, k]) for k in range(K) if k != j]))
    for i in range(K)
    for j in range(K)
    if i != j
  ]
  one = mi.interpolated(scores, 1.0, log_baseline=BASELINE)
  assert float(one) == pytest.approx(np.mean(left_out), rel=1e-5)
  expected = pytest.approx(float(mi.tuba(scores, BASELINE)), rel=1e-5)
  for alpha in (0, 1e-9):
    found = mi.interpolated(scores, alpha, log_baseline=BASELINE)
    assert float(found) == expected


def test_interpolated_where_one_score_is_all_of_the_sum():
  scores = some_scores() + 60 * np.eye(K)
  found = mi.interpolated(scores, 0.01, log_baseline=BASELINE)
  expected = loops_interpolated(scores, 0.01, BASELINE)
  assert float(found) == pytest.approx(expected, rel=1e-5)
  assert float(found) < 1 + math.log((K - 1) / 0.01)


@functools.cache
def ratios(k=2000, dims=2, rho=0.6, seed=0):
  """Scores of the best critic, ln p(x, y) / (p(x) p(y)), and the truth."""
  rng = np.random.default_rng(seed)
  x, other = rng.normal(size=(2, k, dims))
  y = rho * x + math.sqrt(1 - rho**2) * other
  squares = (x**2).sum(1)[:, None] + (y**2).sum(1)
  exponent = rho * (2 * x @ y.T - rho * squares) / (2 * (1 - rho**2))
  truth = -dims / 2 * math.log(1 - rho**2)
  return jnp.asarray(exponent + truth, jnp.float32), truth


# One standard error of 2,000 pairs is 0.02; the clip at 5 nats clips nothing.
@pytest.mark.parametrize(
  ('estimator', 'offset'),
  [
    (mi.info_nce, 0),
    (mi.donsker_varadhan, 0),
    (lambda r: mi.nwj(r + 1), 0),
    (lambda r: mi.tuba(r, 0.0), 0),
    (lambda r: mi.interpolated(r, 0.5, log_baseline=0.0), 0),
    (lambda r: mi.jensen_shannon(r, corrected=True), 0),
    (mi.jensen_shannon, -1 / math.e),
    (lambda r: mi.smile(r, 5), 0),
  ],
)
def test_the_best_critic_gives_what_is_known(estimator, offset):
  r, truth = ratios()
  assert float(estimator(r)) == pytest.approx(truth + offset, abs=0.04)


@pytest.mark.parametrize(
  ('estimator', 'nats', 'low', 'high'),
  [
    # Of 64 pairs in 20 dimensions, as in the staircase: at 2 nats InfoNCE is a
    # little short, at 10 it stands under ln 64 = 4.16; the others are unbiased.
    (mi.info_nce, 2, 1.75, 2.0),
    (mi.info_nce, 10, 4.0, math.log(64)),
    (lambda r: mi.nwj(r + 1), 2, 1.8, 2.2),
    (lambda r: mi.tuba(r, 0.0), 2, 1.8, 2.2),
    (lambda r: mi.smile(r, 5), 10, 9.0, 15.0),
  ],
)
def test_the_best_critic_on_the_staircase(estimator, nats, low, high):
  rho = mi.gaussian_correlation(nats, 20)
  found = [float(estimator(ratios(64, 20, rho, s)[0])) for s in range(100)]
  assert low < np.mean(found) < high


def test_gaussians():
  # methods: of 20 dimensions.
  for nats, rho in zip(
    (2, 4, 6, 8, 10), (0.4258, 0.5742, 0.6717, 0.7421, 0.7951), strict=True
  ):
    assert mi.gaussian_correlation(nats, 20) == pytest.approx(rho, abs=5e-5)
    assert mi.gaussian_mutual_information(
      mi.gaussian_correlation(nats, 20), 20
    ) == pytest.approx(nats)
  assert mi.gaussian_correlation(0, 20) == 0


def test_wrong_input():
  with pytest.raises(ValueError, match=r'\(3, 4\)'):
    mi.info_nce(jnp.zeros((3, 4)))
  with pytest.raises(ValueError, match='1 pairs'):
    mi.nwj(jnp.zeros((1, 1)))
  with pytest.raises(ValueError, match='alpha is 1.5'):
    mi.interpolated(jnp.zeros((3, 3)), 1.5)
  with pytest.raises(ValueError, match='clip is 0'):
    mi.smile(jnp.zeros((3, 3)), 0)
  with pytest.raises(ValueError, match='correlation of 1'):
    mi.gaussian_mutual_information(1, 20)
  with pytest.raises(ValueError, match='-1 nats'):
    mi.gaussian_correlation(-1, 20)
