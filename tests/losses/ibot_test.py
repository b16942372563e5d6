import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from contrastive_jax.losses import ibot, mae, normalize_patches
from contrastive_jax.losses import update_patch_center as update
from tests.losses import replicas

RNG = np.random.default_rng(0)
STUDENT = RNG.normal(size=(16, 6, 5)).astype(np.float32)
TEACHER = RNG.normal(size=(16, 6, 5)).astype(np.float32)
MASKED = RNG.random((16, 6)) < 0.4
MASKED[3] = False
TARGETS = np.asarray(scipy.special.softmax(TEACHER / 0.1, axis=-1))


def oracle():
  log_p = scipy.special.log_softmax(STUDENT.astype(np.float64) / 0.2, axis=-1)
  total = 0
  for i in range(16):
    patches = [-TARGETS[i, j] @ log_p[i, j] for j in np.flatnonzero(MASKED[i])]
    total += np.mean(patches) if patches else 0
  return total / 16


def test_equals_the_definition():
  value = ibot(STUDENT, TARGETS, MASKED, temperature=0.2)
  np.testing.assert_allclose(value, oracle(), rtol=1e-5)


def test_only_masked_patches_have_a_gradient_and_the_teacher_has_none():
  gradients = jax.grad(
    lambda s, t: ibot(s, t, MASKED, temperature=0.2), argnums=(0, 1)
  )(STUDENT, TARGETS)
  assert np.all(np.any(gradients[0] != 0, axis=-1) == MASKED)
  assert not np.any(gradients[1])


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
def test_eight_devices_are_one(mapping):
  def loss(rows, targets, masked, axis_name=None):
    del axis_name  # nothing is gathered
    return ibot(rows[0], targets, masked, temperature=0.2)

  ours = replicas.value_and_grad(
    loss, (STUDENT,), TARGETS, MASKED, mapping=mapping
  )
  whole = jax.value_and_grad(loss)((STUDENT,), TARGETS, MASKED)
  replicas.assert_same(ours, whole)


def test_every_masked_patch_moves_the_center_alike():
  center = np.arange(5, dtype=np.float32)
  moved = update(center, TEACHER, MASKED, momentum=0.9)
  expected = 0.9 * center + 0.1 * TEACHER[MASKED].mean(axis=0)
  np.testing.assert_allclose(moved, expected, rtol=1e-5)
  none = update(center, TEACHER, np.zeros_like(MASKED), momentum=0.9)
  np.testing.assert_allclose(none, center)


def test_the_center_is_that_of_all_devices():
  def step(teacher, masked):
    return update(
      jnp.zeros(5), teacher, masked, momentum=0.9, axis_name='replica'
    )

  parts = [x.reshape(8, 2, *x.shape[1:]) for x in (TEACHER, MASKED)]
  moved = jax.pmap(step, axis_name='replica')(*parts)
  expected = update(jnp.zeros(5), TEACHER, MASKED, momentum=0.9)
  np.testing.assert_allclose(moved[0], expected, rtol=1e-5)


@pytest.mark.parametrize('values', [4, 768])
def test_maes_gauge(values):
  """Of zero, for patches that are not constant; one that is counts as 0."""
  patches = RNG.normal(size=(3, 5, values)).astype(np.float32)
  targets = normalize_patches(patches)
  value = mae(np.zeros_like(targets), targets)
  np.testing.assert_allclose(value, (values - 1) / values, rtol=1e-5)
  patches[0, 0] = 7
  value = mae(np.zeros_like(targets), normalize_patches(patches))
  np.testing.assert_allclose(value, 14 / 15 * (values - 1) / values, rtol=1e-5)


def test_maes_targets_have_no_gradient():
  patches = RNG.normal(size=(3, 5, 4)).astype(np.float32)
  assert not np.any(jax.grad(lambda t: mae(patches, t))(patches + 1))
