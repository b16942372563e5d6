import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.objectives.dino import teacher_temperature
from contrastive_jax.training import build, step
from tests import tiny

# One job serves most tests: compiling is what takes the time.
USUAL = dict(
  teacher_temperature=1.0,
  teacher_temperature_start=0.05,
  teacher_temperature_epochs=2,
)


@functools.cache
def make(**changes):
  config = tiny.config_of('dino_small')
  config.batch_size = 8
  config.steps = 100
  config.objective.num_prototypes = 32
  config.update_from_flattened_dict(
    {f'objective.{k}': v for k, v in changes.items()}
  )
  config.augment.local_crops = 2
  config.augment.local_size = 4
  return build.build(config, step.make_mesh(jax.devices()[:1]))


@functools.cache
def initial_state():
  state = build.init_state(make(**USUAL))
  return state.params, state.model_state


@functools.cache
def loss_fn():
  objective = make(**USUAL).objective
  return jax.jit(
    lambda params, model_state, batch, step: objective.loss(
      params,
      model_state,
      batch,
      rng=jax.random.key(0),
      step=step,
      axis_name=None,
    )
  )


def batch_of_noise():
  rng = np.random.default_rng(0)
  batch = build.example_batch(make(**USUAL), 8)
  views = [rng.uniform(size=v.shape).astype(np.float32) for v in batch['views']]
  return {**batch, 'views': tuple(views)}


def test_a_student_that_says_nothing_is_at_chance():
  params, model_state = initial_state()
  projector = {
    **params['projector'],
    'dense2': jax.tree.map(jnp.zeros_like, params['projector']['dense2']),
  }
  value, (_, _, embeddings) = loss_fn()(
    {**params, 'projector': projector}, model_state, batch_of_noise(), 0
  )
  assert make(**USUAL).objective.chance(8) == pytest.approx(math.log(32))
  np.testing.assert_allclose(value, math.log(32), rtol=1e-5)
  # Local crops are not what a collapse is looked for in.
  assert [z.shape for z in embeddings] == [(8, 64)] * 2


def test_the_teacher_begins_as_the_student_and_gets_no_gradient():
  params, model_state = initial_state()
  jax.tree.map(np.testing.assert_array_equal, model_state['target'], params)
  gradient = jax.grad(
    lambda target: loss_fn()(
      params, {**model_state, 'target': target}, batch_of_noise(), 0
    )[0]
  )(model_state['target'])
  assert not any(np.any(g) for g in jax.tree.leaves(gradient))


def test_the_center_is_used_before_it_moves_by_raw_logits():
  params, model_state = initial_state()
  batch = batch_of_noise()
  # The teacher is another one than the student, so that its part shows.
  target = jax.tree.map(lambda p: 1.5 * p + 0.01, params)
  zero = np.zeros(32, np.float32)
  center = np.linspace(-1, 1, 32, dtype=np.float32)
  results = [
    loss_fn()(params, {**model_state, 'target': target, 'center': c}, batch, 0)
    for c in (zero, center)
  ]
  (from_zero, (after_zero, _, _)), (value, (after, _, _)) = results
  mean = after_zero['center'] / 0.1
  assert np.linalg.norm(mean) > 0.01
  np.testing.assert_allclose(
    after['center'], 0.9 * center + 0.1 * mean, atol=1e-6
  )
  assert abs(value - from_zero) > 0.01


def test_the_teacher_sees_the_global_views_only():
  params, model_state = initial_state()
  batch = batch_of_noise()
  views = batch['views']
  changed = {**batch, 'views': (*views[:2], *(1 - v for v in views[2:]))}
  value, (one, _, _) = loss_fn()(params, model_state, batch, 0)
  other, (two, _, _) = loss_fn()(params, model_state, changed, 0)
  assert value != other
  for name in ('center', 'target_batch_stats'):
    jax.tree.map(np.testing.assert_array_equal, one[name], two[name])
  # The networks are the same still, but the student has seen more.
  student, teacher = (
    one[name]['projector']['norm1']['mean']
    for name in ('batch_stats', 'target_batch_stats')
  )
  assert np.linalg.norm(student - teacher) > 1e-3 * np.linalg.norm(teacher)


def test_the_teacher_follows_by_half_a_cosine():
  params, model_state = {'w': jnp.ones(3)}, {'target': {'w': jnp.zeros(3)}}

  def moved(number, **changes):
    objective = make(**changes).objective
    return objective.after_update(params, model_state, number)['target']['w']

  rising = dict(tau=0.9, tau_end=1.0)
  for number, expected in ((0, 0.1), (50, 0.05), (100, 0.0)):
    np.testing.assert_allclose(moved(number, **rising), expected, atol=1e-6)
  np.testing.assert_allclose(moved(77, tau=0.9, tau_end=0.9), 0.1, rtol=1e-5)


@pytest.mark.parametrize(
  'epochs, expected',
  [(0, [7, 7, 7]), (1, [4, 7, 7]), (4, [4, 5, 6, 7, 7])],
)
def test_the_teachers_temperature(epochs, expected):
  config = make(
    teacher_temperature=0.07,
    teacher_temperature_start=0.04,
    teacher_temperature_epochs=epochs,
  ).config.objective
  actual = [100 * teacher_temperature(config, e) for e in range(len(expected))]
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_the_temperature_of_the_epoch_is_used():
  params, model_state = initial_state()
  last = make(**USUAL).run.steps_per_epoch - 1
  entropies = [
    loss_fn()(params, model_state, batch_of_noise(), number)[1][1]['entropy']
    for number in (0, last, last + 1)
  ]
  assert entropies[0] == entropies[1] < entropies[2]


def test_the_teacher_is_evaluated():
  params, model_state = initial_state()
  nothing = jax.tree.map(jnp.zeros_like, params)
  objective = make(**USUAL).objective
  images = batch_of_noise()['views'][0]

  def features(params, model_state):
    return objective.features(*objective.evaluated(params, model_state), images)

  assert np.any(features(nothing, model_state))
  assert not np.any(features(params, {**model_state, 'target': nothing}))


@pytest.mark.parametrize('projector_norm', [False, True])
@pytest.mark.parametrize('norm_last_layer', [False, True])
def test_parameters_of_the_head(projector_norm, norm_last_layer):
  job = make(
    projector_layers=3,
    projector_norm=projector_norm,
    norm_last_layer=norm_last_layer,
  )
  shapes = jax.eval_shape(build.make_init(job)).params
  assert set(shapes) == {'encoder', 'projector', 'last_layer'}
  layers = {'dense1', 'dense2', 'dense3'}
  norms = {'norm1', 'norm2'} if projector_norm else set()
  assert set(shapes['projector']) == layers | norms
  assert ('bias' in shapes['projector']['dense1']) != projector_norm
  assert ('scale' in shapes['last_layer']) != norm_last_layer


def test_initial_values_of_the_head():
  params, _ = initial_state()
  kernel = params['projector']['dense1']['kernel']
  np.testing.assert_allclose(kernel.std(), 0.02, rtol=0.1)
  # PyTorch's default of a linear layer: uniform up to 1 / sqrt(64).
  vectors = params['last_layer']['vectors']
  assert vectors.shape == (32, 64)
  assert 0.124 < abs(vectors).max() <= 0.125


@pytest.mark.parametrize(
  'changes, sentence',
  [
    (dict(temperature=0.0), 'objective.temperature is 0: it must be above 0'),
    (
      dict(teacher_temperature=-0.1),
      'teacher_temperature is -0.1: it must be above 0',
    ),
    (
      dict(tau=1.5),
      'objective.tau is 1.5: it must be at least 0 and at most 1',
    ),
    (dict(num_prototypes=1), 'num_prototypes is 1: it must be at least 2'),
    (dict(projector_layers=0), 'objective.projector_layers is 0'),
  ],
)
def test_wrong_values_are_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make(**changes)
