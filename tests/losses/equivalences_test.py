"""Losses that are others in disguise: identities, one a test.

What each loss is by itself is tested in its own file; that two of them, written
apart, meet where theory has them meet is tested here.
"""

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import losses
from contrastive_jax.losses._lejepa import GAUSSIAN


def rows(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


A, B = rows(0, 16, 8), rows(1, 16, 8)
# tests/losses/golden_test.py has losses against others' code.


def same(one, other, rtol=1e-5):
  """Both functions of (A, B): values and gradients of both inputs."""
  np.testing.assert_allclose(one(A, B), other(A, B), rtol=rtol, atol=1e-6)
  gradients = (jax.grad(loss, argnums=(0, 1))(A, B) for loss in (one, other))
  for x, y in zip(*gradients, strict=True):
    np.testing.assert_allclose(x, y, rtol=10 * rtol, atol=1e-6)


def test_supcon_without_labels_is_nt_xent():
  same(
    lambda a, b: losses.supcon([a, b], temperature=0.2, base_temperature=0.2),
    lambda a, b: losses.nt_xent(a, b, temperature=0.2),
  )


def test_supcon_of_images_that_are_each_a_class_is_nt_xent():
  labels = jnp.arange(16)
  same(
    lambda a, b: losses.supcon(
      [a, b], labels, temperature=0.2, base_temperature=0.2
    ),
    lambda a, b: losses.nt_xent(a, b, temperature=0.2),
  )


def test_dclw_with_a_wide_weight_is_dcl():
  same(
    lambda a, b: losses.dcl(a, b, temperature=0.2, weight_sigma=1e6),
    lambda a, b: losses.dcl(a, b, temperature=0.2),
  )


def test_clip_is_info_nce_in_both_directions():
  def both(a, b):
    a, b = losses.l2_normalize(a), losses.l2_normalize(b)
    return 0.5 * (
      losses.batch_info_nce(a, b, temperature=0.2)[0]
      + losses.batch_info_nce(b, a, temperature=0.2)[0]
    )

  def clip(a, b):
    value = losses.clip(a, b, temperature=0.2)
    return value[0] if isinstance(value, tuple) else value

  same(clip, both)


def test_a_queue_of_the_other_keys_is_the_batch():
  """MoCo whose queue holds the batch's other keys is MoCo v3's direction."""
  a, b = losses.l2_normalize(A), losses.l2_normalize(B)
  of_each = [
    losses.queue_info_nce(
      a[i : i + 1],
      b[i : i + 1],
      jnp.delete(b, i, axis=0),
      temperature=0.2,
    )[0]
    for i in range(len(a))
  ]
  batch, _ = losses.batch_info_nce(a, b, temperature=0.2)
  np.testing.assert_allclose(np.mean(of_each), batch, rtol=1e-5)


def test_byol_is_simsiam_but_for_a_factor_and_a_constant():
  same(
    losses.normalized_squared_error,
    lambda a, b: 2 + 2 * losses.negative_cosine(a, b),
  )


def test_dino_of_a_sure_teacher_is_cross_entropy_with_its_classes():
  """One-hot targets: what is left is a classifier's loss."""
  student = [rows(2, 12, 6), rows(3, 12, 6)]
  classes = jnp.arange(12) % 6
  teacher = [100 * jax.nn.one_hot(classes, 6)] * 2
  value = losses.dino(
    student, teacher, jnp.zeros(6), temperature=0.5, teacher_temperature=0.1
  )
  log_p = [jax.nn.log_softmax(s / 0.5) for s in student]
  expected = -np.mean([p[jnp.arange(12), classes] for p in log_p])
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_swav_without_sinkhorn_is_dino_that_teaches_itself():
  scores = [rows(4, 12, 6), rows(5, 12, 6)]
  swav = losses.swav(scores, temperature=0.1, epsilon=0.05, iterations=0)
  dino = losses.dino(
    scores, scores, jnp.zeros(6), temperature=0.1, teacher_temperature=0.05
  )
  np.testing.assert_allclose(swav, dino, rtol=1e-5)


def test_ibot_of_one_patch_is_dino_across_two_views():
  """A crop of one patch, masked: its token is a class token."""
  student, teacher = rows(6, 12, 6), rows(7, 12, 6)
  targets = jax.nn.softmax(teacher / 0.04)
  masked = jnp.ones((12, 1), bool)
  value = losses.ibot(
    student[:, None], targets[:, None], masked, temperature=0.1
  )
  # DINO's first pair: the teacher's only view with the student's second.
  dino = losses.dino(
    [rows(8, 12, 6), student],
    [teacher],
    jnp.zeros(6),
    temperature=0.1,
    teacher_temperature=0.04,
  )
  np.testing.assert_allclose(value, dino, rtol=1e-5)


def test_barlow_twins_of_one_view_is_vicregs_covariance():
  """Of standardized dimensions covariance is correlation; no diagonal term."""
  z = (A - A.mean(0)) / A.std(0)
  n, d = z.shape
  correlation = losses.barlow_twins(z, z, redundancy_weight=1.0)
  covariance = 0.5 * losses.vicreg(  # both views have one
    z, z, similarity_weight=0, variance_weight=0, covariance_weight=1
  )
  np.testing.assert_allclose(
    correlation,
    covariance * d * ((n - 1) / n) ** 2,
    rtol=1e-4,  # both add something to a variance
  )


def test_lejepa_and_visreg_without_their_regularizers_are_vicregs_similarity():
  directions = jnp.eye(8)
  for loss in (losses.lejepa, losses.visreg):
    same(
      lambda a, b, loss=loss: loss([a, b], directions, weight=0.0),
      lambda a, b: (
        losses.vicreg(
          a, b, similarity_weight=1, variance_weight=0, covariance_weight=0
        )
        / 4
      ),
    )


def test_sigreg_of_gaussian_samples_is_its_gauge_whatever_their_number():
  directions = jnp.eye(8)
  for n, count in ((16, 400), (128, 100)):
    samples = rows(9, count, n, 8)
    values = jax.vmap(lambda z: losses.sigreg(z, directions))(samples)
    error = np.std(values) / np.sqrt(count)
    assert abs(np.mean(values) - GAUSSIAN) < 4 * error, n


def test_sinkhorn_of_samples_among_others_is_theirs_alone():
  scores = rows(10, 12, 5) / 4
  valid = jnp.arange(12) % 3 > 0
  among = losses.sinkhorn(scores, epsilon=0.05, valid=valid)
  alone = losses.sinkhorn(scores[valid], epsilon=0.05)
  np.testing.assert_allclose(among[valid], alone, rtol=1e-5, atol=1e-7)


def test_mae_of_pixels_that_are_the_batch_is_vicregs_similarity():
  same(
    lambda a, b: losses.mae(a[:, None], jax.lax.stop_gradient(b)[:, None]),
    lambda a, b: losses.vicreg(
      a,
      jax.lax.stop_gradient(b),
      similarity_weight=1,
      variance_weight=0,
      covariance_weight=0,
    ),
  )
