"""Every optimizer against the update that it is named after, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax import config as config_lib
from contrastive_jax.training import optim, step
from contrastive_jax.training.checkpoint import Checkpoints

# The orders of LARS and the start of a momentum differ only if it changes.
RATES = (0.0, 0.5, 1.0, 0.3, 0.7, 0.2)
PEAK = 1.0
# Half-way down a cosine from 1 to 0, step by step.
COSINE = (1 + np.cos(np.pi * np.arange(6) / 6)) / 2


def optimizer_config(**changes):
  c = config_lib.base().optimizer
  c.update(changes)
  return c


def make_optimizer(config):
  return optim.make_optimizer(
    config,
    lambda count: jnp.asarray(RATES)[count],
    peak=PEAK,
    total_steps=len(RATES),
    steps_per_epoch=2,
  )


def random_tree(rng):
  shapes = {'kernel': (3, 4), 'bias': (4,), 'zero': (2, 2)}
  return {
    name: {
      key: rng.normal(size=shape).astype(np.float32)
      for key, shape in shapes.items()
    }
    for name in ('encoder', 'predictor', 'prototypes')
  }


def params_and_gradients():
  rng = np.random.default_rng(0)
  params = random_tree(rng)
  for tensors in params.values():
    tensors['zero'] *= 0  # a trust ratio of 0/x would be stuck
  gradients = [random_tree(rng) for _ in RATES]
  gradients[2]['encoder']['kernel'] *= 0
  return params, gradients


def by_hand(config, w, gradients, *, name, decays):
  """The updates of one tensor, line by line as in the papers, in float64."""
  w = np.array(w, np.float64)
  velocity, mean, square = (np.zeros_like(w) for _ in range(3))
  is_weight = w.ndim > 1
  first = round(2 * config.frozen_epochs) if name in config.frozen else 0
  for n in range(first, len(gradients)):
    g = np.array(gradients[n], np.float64)
    rate = PEAK if name in config.constant_rate else RATES[n]
    if not is_weight:
      rate *= config.bias_and_norm_rate
    if config.clip_tensor_norm:
      g *= min(1, config.clip_tensor_norm / (np.linalg.norm(g) + 1e-6))
    if config.name == 'adamw':
      mean = 0.9 * mean + 0.1 * g
      square = 0.999 * square + 0.001 * g**2
      updates = n - first + 1
      direction = mean / (1 - 0.9**updates)
      direction /= np.sqrt(square / (1 - 0.999**updates)) + 1e-8
      w = w - rate * (direction + decays[n] * is_weight * w)
      continue
    w_norm, g_norm = np.linalg.norm(w), np.linalg.norm(g)
    if config.name == 'larc':  # biases too
      if min(w_norm, g_norm) > 0:
        decay = config.weight_decay
        ratio = config.trust_coefficient * w_norm
        ratio /= g_norm + decay * w_norm + 1e-8
        g = ratio * (g + decay * w)
    elif is_weight:
      g = g + decays[n] * w
      g_norm = np.linalg.norm(g)
      if config.name == 'lars' and min(w_norm, g_norm) > 0:
        g = config.trust_coefficient * w_norm / g_norm * g
    if config.name == 'lars' and config.learning_rate_inside_momentum:
      velocity = config.momentum * velocity + rate * g
      w = w - velocity
    else:
      velocity = config.momentum * velocity + g
      w = w - rate * velocity
  return w


def check_against_by_hand(**changes):
  config = optimizer_config(**{'weight_decay': 1e-2, **changes})
  decays = np.full(len(RATES), config.weight_decay)
  if config.weight_decay_end is not None:
    end = config.weight_decay_end
    decays = end + (config.weight_decay - end) * COSINE
  params, gradients = params_and_gradients()
  expected = {
    name: {
      key: by_hand(
        config, w, [g[name][key] for g in gradients], name=name, decays=decays
      )
      for key, w in tensors.items()
    }
    for name, tensors in params.items()
  }
  optimizer = make_optimizer(config)
  update, state = jax.jit(optimizer.update), optimizer.init(params)
  for gradient in gradients:
    updates, state = update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  # Adam divides by 1 - 0.999, which float32 knows to 6e-5.
  atol = 2e-5 if config.name == 'adamw' else 2e-6
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol),
    params,
    expected,
  )


FROZEN = dict(frozen=('prototypes',), frozen_epochs=1.5)  # three steps
OPTIMIZERS = {
  'sgd': dict(name='sgd'),
  'adamw': dict(name='adamw'),
  'larc': dict(name='larc', trust_coefficient=0.1),
  'lars': dict(trust_coefficient=0.1, learning_rate_inside_momentum=False),
  'lars, rate inside': dict(trust_coefficient=0.1),
}


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_update(optimizer):
  check_against_by_hand(**OPTIMIZERS[optimizer])


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_what_was_frozen_joins_at_the_current_rate(optimizer):
  check_against_by_hand(**OPTIMIZERS[optimizer], **FROZEN)


@pytest.mark.parametrize('optimizer', ['sgd', 'lars, rate inside', 'larc'])
def test_rates_of_their_own(optimizer):
  check_against_by_hand(
    **OPTIMIZERS[optimizer],
    bias_and_norm_rate=0.024,
    constant_rate=('predictor',),
  )


@pytest.mark.parametrize('optimizer', ['sgd', 'adamw', 'lars'])
def test_weight_decay_on_a_cosine(optimizer):
  check_against_by_hand(**OPTIMIZERS[optimizer], weight_decay_end=0.5, **FROZEN)


@pytest.mark.parametrize('optimizer', ['sgd', 'adamw'])
def test_each_tensor_is_clipped_by_its_own_norm(optimizer):
  check_against_by_hand(**OPTIMIZERS[optimizer], clip_tensor_norm=1.5)


@pytest.mark.parametrize('frozen', [False, True])
def test_all_tensors_are_clipped_by_their_common_norm(frozen):
  """What stands still counts nothing in it, until it moves."""
  fields = {**OPTIMIZERS['sgd'], **(FROZEN if frozen else {})}
  params, gradients = params_and_gradients()
  clipped = []
  for n, gradient in enumerate(gradients):
    moving = {
      name: tensors
      for name, tensors in gradient.items()
      if not (frozen and name in FROZEN['frozen'] and n < 3)
    }
    norm = np.sqrt(sum(np.sum(x**2.0) for x in jax.tree.leaves(moving)))
    factor = min(1, 1.5 / norm)
    clipped.append(jax.tree.map(lambda x, f=factor: x * f, gradient))
  updates = []
  for clip_norm, given in ((1.5, gradients), (0.0, clipped)):
    optimizer = make_optimizer(optimizer_config(**fields, clip_norm=clip_norm))
    state, trail = optimizer.init(params), []
    for gradient in given:
      update, state = optimizer.update(gradient, state, params)
      trail.append(update)
    updates.append(trail)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
    *updates,
  )


def test_adams_second_moment_has_its_own_share():
  params, gradients = params_and_gradients()
  square = np.zeros((3, 4))
  optimizer = make_optimizer(
    optimizer_config(**OPTIMIZERS['adamw'], adam_b2=0.5)
  )
  state = optimizer.init(params)
  for gradient in gradients[:2]:
    square = 0.5 * square + 0.5 * gradient['encoder']['kernel'] ** 2.0
    _, state = optimizer.update(gradient, state, params)
  (found,) = [
    x
    for path, x in jax.tree.leaves_with_path(state)
    if "nu['encoder']['kernel']" in jax.tree_util.keystr(path)
  ]
  np.testing.assert_allclose(found, square, rtol=1e-5)


def test_everything_at_once():
  check_against_by_hand(
    **OPTIMIZERS['lars, rate inside'],
    **FROZEN,
    bias_and_norm_rate=0.5,
    clip_tensor_norm=1.5,
    constant_rate=('predictor', 'prototypes'),
    weight_decay_end=0.5,
  )


@pytest.mark.parametrize('optimizer', ['sgd', 'adamw', 'lars, rate inside'])
def test_what_is_frozen_is_not_touched(optimizer):
  config = optimizer_config(**OPTIMIZERS[optimizer], **FROZEN)
  params, gradients = params_and_gradients()
  optimizer = make_optimizer(config)
  update, state = jax.jit(optimizer.update), optimizer.init(params)

  def frozen_state(state):
    return state.inner_states['frozen'].inner_state.inner_state

  before = jax.tree.leaves(frozen_state(state))
  for n, gradient in enumerate(gradients[:4]):
    updates, state = update(gradient, state, params)
    after = jax.tree.leaves(frozen_state(state))
    moved = [(x != y).any() for x, y in zip(before, after, strict=True)]
    assert any(moved) == (n >= 3)
    for frozen in updates['prototypes'].values():
      assert (frozen == 0).all() == (n < 3)
    assert n == 0 or (updates['encoder']['kernel'] != 0).all()


def test_goes_on_from_a_checkpoint_and_is_alike_on_all_replicas(tmp_path):
  config = optimizer_config(
    **OPTIMIZERS['lars, rate inside'],
    **FROZEN,
    bias_and_norm_rate=0.5,
    constant_rate=('predictor',),
    weight_decay_end=0.5,
  )
  params, gradients = params_and_gradients()
  optimizer = make_optimizer(config)

  # shard_map refuses what it cannot prove to be alike on all replicas.
  @jax.jit
  @lambda f: jax.shard_map(
    f, mesh=step.make_mesh(), in_specs=P(), out_specs=P()
  )
  def advance(gradient, state, params):
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  with Checkpoints(tmp_path, every_steps=2, keep=1) as checkpoints:
    for n, gradient in enumerate(gradients):
      params, state = advance(gradient, state, params)
      if n == 1:
        checkpoints.save(2, (params, state))
    (again, state), _ = checkpoints.restore((params, state))
  for gradient in gradients[2:]:
    again, state = advance(gradient, state, again)
  jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parametrize('name', ['sgd', 'adamw', 'lars'])
def test_biases_and_scales_are_not_decayed(name):
  config = optimizer_config(name=name, weight_decay=0.1)
  update = optim.make_optimizer(
    config, lambda count: 0.1, peak=0.1, total_steps=1, steps_per_epoch=1
  )
  params = {'kernel': jnp.ones((2, 2)), 'scale': jnp.ones(2)}
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = update.update(zeros, update.init(params), params)
  assert (updates['kernel'] < 0).all()
  assert (updates['scale'] == 0).all()


def test_the_table_counts_every_parameter_once():
  params = {'a': {'kernel': jnp.ones((3, 5)), 'bias': jnp.ones(5)}}
  table = optim.parameter_groups(
    optimizer_config(), params, steps_per_epoch=1
  ).splitlines()
  assert 'decayed and adapted' in table[3] and ' 15 ' in table[3]
  assert 'a/kernel' in table[3]
  assert 'neither' in table[2] and ' 5 ' in table[2] and 'a/bias' in table[2]


def test_the_table_shows_every_treatment():
  config = optimizer_config(
    name='adamw',
    weight_decay=0.04,
    weight_decay_end=0.4,
    clip_tensor_norm=3.0,
    bias_and_norm_rate=0.5,
    constant_rate=('predictor',),
    **FROZEN,
  )
  params, _ = params_and_gradients()
  table = optim.parameter_groups(config, params, steps_per_epoch=2)
  title, _, *rows = table.splitlines()
  assert title == (
    'optimizer adamw, weight decay 0.04 to 0.4 (half cosine), '
    'gradient norm of a tensor at most 3'
  )
  assert {row.split('  ')[0] for row in rows} == {
    'decayed',
    'not decayed, rate x 0.5',
    'decayed, constant rate',
    'not decayed, constant rate, rate x 0.5',
    'decayed, frozen until step 3',
    'not decayed, rate x 0.5, frozen until step 3',
  }
  larc = optim.parameter_groups(
    optimizer_config(name='larc'), params, steps_per_epoch=2
  ).splitlines()
  assert len(larc) == 3 and larc[2].startswith('decayed and adapted')


@pytest.mark.parametrize('field', ['constant_rate', 'frozen'])
def test_unknown_entries_are_refused(field):
  optimizer = make_optimizer(optimizer_config(**{field: ('prototype',)}))
  params, _ = params_and_gradients()
  sentence = f"{field} names 'prototype'; .* encoder, predictor, prototypes"
  with pytest.raises(ValueError, match=sentence):
    jax.eval_shape(optimizer.init, params)


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match="not 'adam'"):
    make_optimizer(optimizer_config(name='adam'))
  with pytest.raises(ValueError, match='not for larc'):
    make_optimizer(optimizer_config(name='larc', weight_decay_end=0.4))


def test_a_pattern_freezes_a_part_of_an_entry():
  """A frozen patch projection, for one, is below the encoder."""
  params = {
    'encoder': {'stem': {'kernel': jnp.ones((2, 2))}, 'rest': jnp.ones((2, 2))},
    'head': jnp.ones((2, 2)),
  }
  c = config_lib.base().optimizer
  c.name, c.frozen, c.frozen_epochs = 'sgd', ('encoder/stem',), 1.0
  c.constant_rate = ('head',)
  tx = optim.make_optimizer(
    c, lambda step: 0.1, peak=0.2, total_steps=10, steps_per_epoch=2
  )
  updates, _ = tx.update(params, tx.init(params), params)
  assert not np.any(updates['encoder']['stem']['kernel'])
  assert np.all(updates['encoder']['rest'] < 0)
  np.testing.assert_allclose(updates['head'], 2 * updates['encoder']['rest'])
  c.frozen = ('encoder/stm',)
  tx = optim.make_optimizer(
    c, lambda step: 0.1, peak=0.2, total_steps=10, steps_per_epoch=2
  )
  with pytest.raises(ValueError, match="names 'encoder/stm'"):
    tx.init(params)
