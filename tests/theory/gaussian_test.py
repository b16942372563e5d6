"""Noise-contrastive estimation, and the studies whose truth is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from contrastive_jax.losses._nce import noise_contrastive
from experiments.theory import gaussian, nce, staircase


def test_nce_of_a_model_that_is_the_noise():
  for ratio in (1, 10, 0.5):
    found = noise_contrastive(
      *(jnp.full(n, -2.0) for n in (4, 4, 7, 7)), noise_ratio=ratio
    )
    expected = math.log(1 + ratio) + ratio * math.log(1 + 1 / ratio)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_nce_against_probabilities():
  rng = np.random.default_rng(0)
  a, b, c, d = (rng.normal(size=n) for n in (5, 5, 15, 15))
  h_data = np.exp(a) / (np.exp(a) + 3 * np.exp(b))
  h_noise = np.exp(c) / (np.exp(c) + 3 * np.exp(d))
  expected = -np.log(h_data).mean() - 3 * np.log(1 - h_noise).mean()
  found = noise_contrastive(*(jnp.asarray(e) for e in (a, b, c, d)), 3)
  assert float(found) == pytest.approx(expected, rel=1e-5)
  far = noise_contrastive(*(1e4 * jnp.asarray(e) for e in (a, b, c, d)), 3)
  assert np.isfinite(far)


def test_nce_finds_mean_and_normalizer():
  rng = np.random.default_rng(0)
  mean, ratio = 0.7, 5
  data = jnp.asarray(rng.normal(mean, size=20_000), jnp.float32)
  noise = jnp.asarray(rng.normal(0, 2, size=ratio * len(data)), jnp.float32)

  def log_noise(x):
    return -(x**2) / 8 - math.log(2 * math.sqrt(2 * math.pi))

  @jax.value_and_grad
  def loss(theta):
    def log_model(x):
      return theta[1] - (x - theta[0]) ** 2 / 2

    return noise_contrastive(
      log_model(data),
      log_noise(data),
      log_model(noise),
      log_noise(noise),
      ratio,
    )

  loss = jax.jit(loss)
  found = scipy.optimize.minimize(
    lambda theta: jax.tree.map(np.float64, loss(jnp.float32(theta))),
    np.zeros(2),
    jac=True,
  ).x
  # Three standard errors of the mean of so much data are 0.02.
  assert found == pytest.approx([mean, -math.log(2 * math.pi) / 2], abs=0.03)


def test_nce_wrong_input():
  with pytest.raises(ValueError, match=r'data .*\(3,\) .*\(4,\)'):
    noise_contrastive(*(jnp.zeros(n) for n in (3, 4, 5, 5)), 1)
  with pytest.raises(ValueError, match='noise_ratio is 0'):
    noise_contrastive(*(jnp.zeros(3) for _ in range(4)), 0)


def test_the_study_of_nce_is_near_maximum_likelihood():
  rows = nce.measure((300, 3000), (10,), problems=1)
  (_, _, _, *likelihood), (_, name, size, *found) = rows[-2:]
  assert (name, size) == ('NCE, ν = 10', 3000)
  # Of 3,000 data each parameter has a squared error of about 1e-3.
  assert max(likelihood + found) < 0.02
  assert nce.table(rows).count('\n') == 3


def test_the_picture_of_nce(tmp_path):
  rng = np.random.default_rng(0)
  names = 'maximum likelihood', 'NCE, ν = 10'
  rows = [
    [problem, name, size, *rng.random(2)]
    for problem in range(2)
    for size in (300, 3000)
    for name in names
  ]
  figure = nce.plot(rows)
  for axis in figure.axes:
    assert [line.get_label() for line in axis.lines] == list(names)
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), (300, 3000))
  figure.savefig(tmp_path / 'nce.png')


def test_a_staircase_goes_on_and_may_be_added_to(tmp_path, monkeypatch, capsys):
  trained = []

  def train(estimator, critic, levels, steps, seed, *, data):
    trained.append((estimator, seed))
    return np.repeat(np.float32(levels), steps) - 1 + seed

  monkeypatch.setattr(gaussian, 'train', train)
  common = f'x --workdir={tmp_path} --steps_a_level=2 --critics=separable'
  for more in (
    '--estimators=nwj --data=gaussian',
    '--estimators=nwj,info_nce --data=gaussian --seeds=2',
  ):
    monkeypatch.setattr('sys.argv', [*common.split(), *more.split()])
    gaussian.main()
  # Nothing twice.
  assert trained == [('nwj', 0), ('nwj', 1), ('info_nce', 0), ('info_nce', 1)]
  assert '1.50 ± 0.00 (seeds ± 0.71)' in capsys.readouterr().out
  lines = (tmp_path / 'gaussian.csv').read_text().splitlines()
  assert len(lines) == 1 + 4 * len(gaussian.LEVELS)
  assert (tmp_path / 'gaussian.png').exists()
  assert not (tmp_path / 'cubic.png').exists()


def test_the_staircase_keeps_below_its_ceiling():
  levels, steps = (2.0, 10.0), 10
  found = gaussian.train(
    'info_nce', 'concat', levels, steps, 0, batch_size=8, dims=4
  )
  assert found.shape == (20,)
  assert np.isfinite(found).all()
  assert (found <= math.log(8)).all()
  assert len(staircase.plateaus(found, levels)) == 2


def test_the_staircase_learns():
  found = gaussian.train(
    'smile_5', 'separable', (2.0,), 200, 0, batch_size=32, dims=4, data='cubic'
  )
  assert abs(found[0]) < 0.5
  assert found[-50:].mean() > 0.5


def test_the_best_critic_says_what_an_estimator_misses():
  """Of 64 pairs in 20 dimensions, without any training."""
  levels, steps = (2.0, 4.0, 6.0), 400

  def of(name):
    estimates = gaussian.train(name, 'optimal', levels, steps, 0)
    return np.array([x[1] for x in staircase.plateaus(estimates, levels)])

  nwj, dv = of('nwj'), of('donsker_varadhan')
  # Unbiased; the spread is of 2.9 nats at 6, and 200 batches are measured.
  assert nwj == pytest.approx(levels, abs=0.6)
  # A mean over 64 x 63 pairs misses the rare large ratios: too high.
  assert dv[1] > 4.0 and dv[2] > 6.1
  np.testing.assert_allclose(of('tuba'), nwj, rtol=1e-4)
  for name in ('mine', 'smile_inf'):
    np.testing.assert_allclose(of(name), dv, rtol=1e-4)
  np.testing.assert_allclose(of('jensen_shannon'), nwj - 1 / math.e, atol=0.3)
  assert of('info_nce') == pytest.approx([1.8, 3.1, 3.75], abs=0.1)


def test_the_staircase_knows_its_names():
  with pytest.raises(ValueError, match='nce is none of info_nce'):
    gaussian.train('nce', 'concat', (2.0,), 1, 0)


def test_plateaus_are_of_the_last_half():
  estimates = np.array([9.0, 9, 1, 3, 9, 9, 5, 5])
  assert staircase.plateaus(estimates, (2.0, 4.0)) == [
    (2.0, 2.0, 1.0),
    (4.0, 5.0, 0.0),
  ]


def test_smoothing():
  # Weights of 1/3, 1 for a span of 2.
  assert staircase.smoothed(np.array([4.0, 8.0]), 2) == pytest.approx([4, 7])
