import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax.losses._dino import dino, update_center

RNG = np.random.default_rng(0)
STUDENT = tuple(RNG.normal(size=(8, 5)).astype(np.float32) for _ in range(4))
TEACHER = tuple(RNG.normal(size=(8, 5)).astype(np.float32) for _ in range(2))
CENTER = RNG.normal(size=5).astype(np.float32)
TEMPERATURES = dict(temperature=0.5, teacher_temperature=0.2)


def softmax(x):
  e = np.exp(x - x.max())
  return e / e.sum()


def oracle(student, teacher, center, temperature, teacher_temperature):
  """Equations 1 to 3, in float64, pair by pair and sample by sample."""
  terms = []
  for i, t in enumerate(teacher):
    for v, s in enumerate(student):
      if v == i:
        continue
      for n in range(len(t)):
        target = softmax(np.float64(t[n] - center) / teacher_temperature)
        prediction = softmax(np.float64(s[n]) / temperature)
        terms.append(-np.sum(target * np.log(prediction)))
  return np.mean(terms)


@pytest.mark.parametrize('views', [2, 4])
def test_equals_the_equation(views):
  student = STUDENT[:views]
  loss = dino(student, TEACHER, CENTER, **TEMPERATURES)
  expected = oracle(student, TEACHER, CENTER, *TEMPERATURES.values())
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_gradient_equals_finite_differences_of_the_equation():
  gradient = jax.grad(dino)(STUDENT, TEACHER, CENTER, **TEMPERATURES)
  for v, n, k in [(0, 0, 0), (1, 3, 2), (3, 7, 4)]:
    values = []
    for step in (1e-5, -1e-5):
      moved = [np.asarray(s, np.float64) for s in STUDENT]
      moved[v][n, k] += step
      values.append(oracle(moved, TEACHER, CENTER, *TEMPERATURES.values()))
    slope = (values[0] - values[1]) / 2e-5
    np.testing.assert_allclose(gradient[v][n, k], slope, rtol=1e-4, atol=1e-8)


def test_the_teacher_gets_no_gradient():
  gradient = jax.grad(dino, argnums=(1, 2))(
    STUDENT, TEACHER, CENTER, **TEMPERATURES
  )
  assert not any(np.any(g) for g in jax.tree.leaves(gradient))


def test_a_constant_student_is_at_chance():
  student = (jnp.full((8, 4096), 3.0),) * 2
  teacher = (RNG.normal(size=(8, 4096)),) * 2
  loss = dino(student, teacher, jnp.zeros(4096), **TEMPERATURES)
  np.testing.assert_allclose(loss, math.log(4096), rtol=1e-5)


def test_the_center_after_a_step():
  mean = np.mean([*TEACHER[0], *TEACHER[1]], axis=0)
  first = update_center(jnp.zeros(5), TEACHER, momentum=0.9)
  np.testing.assert_allclose(first, 0.1 * mean, rtol=1e-5)
  second = update_center(first, TEACHER, momentum=0.9)
  np.testing.assert_allclose(second, 0.19 * mean, rtol=1e-5)
  still = update_center(jnp.zeros(5), TEACHER, momentum=1.0)
  np.testing.assert_array_equal(still, np.zeros(5))


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
  'fill',
  [lambda s: 0 * s, lambda s: 0 * s + 1, lambda s: 1e4 * s],
  ids=['zeros', 'constant', '1e4'],
)
def test_finite_in_adverse_batches(fill, dtype):
  student, teacher = jax.tree.map(
    lambda s: fill(jnp.asarray(s, dtype)), (STUDENT, TEACHER)
  )
  loss, gradient = jax.value_and_grad(dino)(
    student, teacher, CENTER, temperature=0.01, teacher_temperature=0.01
  )
  center = update_center(jnp.asarray(CENTER), teacher, momentum=0.9)
  assert loss.dtype == center.dtype == jnp.float32
  assert jnp.isfinite(loss)
  assert all(jnp.isfinite(x).all() for x in (*gradient, center))


def test_replicas_together_equal_one_device():
  mesh = jax.make_mesh(
    (8,), ('replica',), axis_types=(jax.sharding.AxisType.Auto,)
  )

  def both(student, teacher, axis_name=None):
    loss, gradient = jax.value_and_grad(dino)(
      student, teacher, CENTER, **TEMPERATURES
    )
    center = update_center(
      jnp.asarray(CENTER), teacher, momentum=0.9, axis_name=axis_name
    )
    return loss[None], gradient, center

  losses, gradient, center = jax.jit(
    jax.shard_map(
      functools.partial(both, axis_name='replica'),
      mesh=mesh,
      in_specs=P('replica'),
      out_specs=(P('replica'), P('replica'), P()),
    )
  )(STUDENT, TEACHER)
  whole = both(STUDENT, TEACHER)
  np.testing.assert_allclose(np.mean(losses), whole[0][0], rtol=1e-5)
  for ours, theirs in zip(gradient, whole[1], strict=True):
    # The loss of the whole batch is the mean of the replicas' losses.
    error = np.linalg.norm(ours / 8 - theirs) / np.linalg.norm(theirs)
    assert error < 1e-5
  np.testing.assert_allclose(center, whole[2], rtol=1e-5, atol=1e-7)
