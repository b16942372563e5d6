"""LARS in both orders against the papers' update, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive_jax import config as config_lib
from contrastive_jax import optim, schedules


def optimizer_config(**changes):
  c = config_lib.base().optimizer
  c.update(changes)
  return c


def lars_by_hand(config, params, gradients, rates):
  """Three lines of the paper, a tensor and a step at a time, in float64."""
  w = {k: np.array(v, np.float64) for k, v in params.items()}
  velocity = {k: np.zeros_like(v) for k, v in w.items()}
  for gradient, rate in zip(gradients, rates, strict=True):
    for k in w:
      g = np.array(gradient[k], np.float64)
      ratio = 1.0
      if w[k].ndim > 1:  # biases and scales are neither decayed nor adapted
        g = g + config.weight_decay * w[k]
        norms = np.linalg.norm(w[k]), np.linalg.norm(g)
        if min(norms) > 0:
          ratio = config.trust_coefficient * norms[0] / norms[1]
      if config.learning_rate_inside_momentum:
        velocity[k] = config.momentum * velocity[k] + rate * ratio * g
        w[k] = w[k] - velocity[k]
      else:
        velocity[k] = config.momentum * velocity[k] + ratio * g
        w[k] = w[k] - rate * velocity[k]
  return w


@pytest.mark.parametrize('inside', [True, False])
def test_lars(inside):
  config = optimizer_config(
    learning_rate_inside_momentum=inside, weight_decay=1e-2
  )
  rng = np.random.default_rng(0)
  shapes = {'kernel': (3, 4), 'bias': (4,), 'zero': (2, 2)}
  params = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
  params['zero'] = np.zeros((2, 2), np.float32)  # a ratio of 0/x would be stuck
  gradients = [
    {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    for _ in range(4)
  ]
  rates = [0.0, 0.5, 1.0, 0.3]  # the two orders differ only if it changes
  update = optim.make_optimizer(config, lambda count: jnp.asarray(rates)[count])
  expected = lars_by_hand(config, params, gradients, rates)
  state = update.init(params)
  for gradient in gradients:
    updates, state = update.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  for k in params:
    np.testing.assert_allclose(params[k], expected[k], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', ['sgd', 'adamw', 'lars'])
def test_biases_and_scales_are_not_decayed(name):
  config = optimizer_config(name=name, weight_decay=0.1)
  update = optim.make_optimizer(config, lambda count: 0.1)
  params = {'kernel': jnp.ones((2, 2)), 'scale': jnp.ones(2)}
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = update.update(zeros, update.init(params), params)
  assert (updates['kernel'] < 0).all()
  assert (updates['scale'] == 0).all()


def test_the_table_counts_every_parameter_once():
  params = {'a': {'kernel': jnp.ones((3, 5)), 'bias': jnp.ones(5)}}
  table = optim.parameter_groups(optimizer_config(), params).splitlines()
  assert 'decayed and adapted' in table[2] and ' 15 ' in table[2]
  assert 'a/kernel' in table[2]
  assert 'neither' in table[3] and ' 5 ' in table[3] and 'a/bias' in table[3]


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match="not 'adam'"):
    optim.make_optimizer(optimizer_config(name='adam'), lambda count: 0.1)
  with pytest.raises(ValueError, match="not 'cubic'"):
    schedules.peak_learning_rate(optimizer_config(scaling='cubic'), 256)


def test_scaling_says_the_sum_it_came_from():
  linear = optimizer_config(base_learning_rate=0.3)
  assert schedules.peak_learning_rate(linear, 512) == (
    pytest.approx(0.6),
    'learning rate 0.3 x 512/256 = 0.6',
  )
  # The two rules of the paper agree at its batch size, 4,096.
  root = optimizer_config(base_learning_rate=0.075, scaling='sqrt')
  assert schedules.peak_learning_rate(root, 4096)[0] == pytest.approx(
    schedules.peak_learning_rate(linear, 4096)[0]
  )


@pytest.mark.parametrize('warmup', [0, 10, 100])
def test_warmup_then_cosine(warmup):
  schedule = schedules.warmup_cosine(2.0, warmup_steps=warmup, total_steps=100)
  for step in (0, 1, 5, 9, 10, 55, 99, 100):
    if step < warmup:
      expected = 2.0 * step / warmup
    elif warmup < 100:
      share = (step - warmup) / (100 - warmup)
      expected = 1.0 + np.cos(np.pi * share)
    else:
      expected = 2.0
    np.testing.assert_allclose(schedule(step), expected, atol=1e-6)
