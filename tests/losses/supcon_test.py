import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.losses import _supcon as supcon_lib
from contrastive_jax.losses._nt_xent import nt_xent
from tests.losses import replicas

_STATIC = ('temperature', 'base_temperature', 'axis_name')
supcon = jax.jit(supcon_lib.supcon, static_argnames=_STATIC)
supcon_and_statistics = jax.jit(
  supcon_lib.supcon_and_statistics, static_argnames=_STATIC
)


def oracle(views, labels, temperature, base_temperature=0.07):
  """The equation, in float64, one anchor at a time."""
  z = np.concatenate(views).astype(np.float64)
  u = z / np.linalg.norm(z, axis=1, keepdims=True)
  labels = np.tile(labels, len(views))
  losses = []
  for i in range(len(u)):
    others = [k for k in range(len(u)) if k != i]
    log_sum = np.log(sum(np.exp(u[i] @ u[k] / temperature) for k in others))
    of_class = [
      u[i] @ u[k] / temperature - log_sum
      for k in others
      if labels[k] == labels[i]
    ]
    losses.append(-np.mean(of_class) if of_class else 0.0)
  return temperature / base_temperature * np.mean(losses)


def embeddings(n, d, views=2):
  rng = np.random.default_rng(0)
  return tuple(rng.normal(size=(n, d)).astype(np.float32) for _ in range(views))


def classes(n):
  return np.random.default_rng(1).integers(4, size=n).astype(np.int32)


@pytest.mark.parametrize(
  'n, views, temperature',
  # 200 x 3: two blocks, one not full.
  [(1, 2, 0.1), (9, 2, 0.1), (9, 3, 1.0), (200, 3, 0.1)],
)
def test_equals_the_equation(n, views, temperature):
  z = embeddings(n, 16, views)
  np.testing.assert_allclose(
    supcon(z, classes(n), temperature=temperature),
    oracle(z, classes(n), temperature),
    rtol=1e-5,
    atol=1e-6,
  )


def test_gradient_equals_finite_differences_of_the_equation():
  z_a, z_b = (z.astype(np.float64) for z in embeddings(5, 3))
  labels = np.array([0, 1, 0, 0, 2])
  gradient = jax.grad(lambda z: supcon((z, z_b), labels, temperature=0.5))(z_a)
  for index in np.ndindex(*z_a.shape):
    step = np.zeros(z_a.shape)
    step[index] = 1e-5
    slope = (
      oracle((z_a + step, z_b), labels, 0.5)
      - oracle((z_a - step, z_b), labels, 0.5)
    ) / 2e-5
    np.testing.assert_allclose(gradient[index], slope, rtol=1e-4, atol=1e-5)


def test_without_labels_it_is_scaled_nt_xent():
  z = embeddings(7, 8)
  for labels in (None, np.arange(7)):  # each image its own class
    np.testing.assert_allclose(
      supcon(z, labels, temperature=0.2),
      0.2 / 0.07 * nt_xent(*z, temperature=0.2),
      rtol=1e-5,
    )


@pytest.mark.parametrize('labels', [None, np.zeros(8, int), np.arange(8) % 3])
def test_all_alike_is_at_chance_whatever_the_labels(labels):
  same = np.ones((8, 4), np.float32)
  np.testing.assert_allclose(
    supcon((same, same), labels, temperature=0.1),
    0.1 / 0.07 * math.log(15),
    rtol=1e-5,
  )


def test_classes_drawn_to_a_point_each_reach_the_floor():
  labels = np.arange(12) % 3
  z = np.eye(3, dtype=np.float32)[labels]
  expected = math.log(7 + 16 * math.exp(-10))  # 7 positives, 16 negatives
  np.testing.assert_allclose(
    supcon((z, z), labels, temperature=0.1, base_temperature=0.1),
    expected,
    rtol=1e-5,
  )


def test_an_anchor_without_positives_counts_with_zero():
  (z,) = embeddings(5, 4, views=1)
  labels = np.array([0, 0, 1, 2, 3])
  value, gradient = jax.value_and_grad(
    lambda z: supcon((z,), labels, temperature=0.1)
  )(z)
  np.testing.assert_allclose(value, oracle((z,), labels, 0.1), rtol=1e-5)
  assert jnp.isfinite(gradient).all()
  alone, gradient = jax.value_and_grad(
    lambda z: supcon((z,), np.arange(5), temperature=0.1)
  )(z)
  assert alone == 0 and not gradient.any()


def test_one_view_of_one_image_is_refused():
  with pytest.raises(ValueError, match='1 view of 1 image'):
    supcon(embeddings(1, 4, views=1), temperature=0.1)


def test_statistics_of_a_batch_worked_by_hand():
  # Two images of class 0 a right angle apart, one of class 1 between them.
  z = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
  _, statistics = supcon_and_statistics(
    (z,), np.array([0, 0, 1]), temperature=1.0
  )
  half = math.sqrt(0.5)
  expected = {
    'contrastive_accuracy': 0,
    'positive_similarity': 0,
    'hardest_negative_similarity': half,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(statistics[name], value, atol=1e-6)
  p = np.exp([0, half]) / np.exp([0, half]).sum()
  entropies = [-(p * np.log(p)).sum()] * 2 + [math.log(2)]
  np.testing.assert_allclose(
    statistics['entropy'], np.mean(entropies), rtol=1e-5
  )
  _, statistics = supcon_and_statistics(
    (z, z), np.zeros(3, int), temperature=1.0
  )
  assert statistics['contrastive_accuracy'] == 1
  assert statistics['hardest_negative_similarity'] == -1  # there is none


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
  'fill',
  [
    lambda z: 0 * z,
    lambda z: z.at[0].set(0),
    lambda z: jnp.ones_like(z),
    lambda z: 1e4 * z,
    lambda z: 1e-20 * z,
  ],
  ids=['zeros', 'one zero', 'duplicates', '1e4', '1e-20'],
)
def test_finite_in_adverse_batches(fill, dtype):
  z = tuple(fill(jnp.asarray(z, dtype)) for z in embeddings(6, 8))
  loss, gradient = jax.value_and_grad(
    lambda z: supcon(z, classes(6), temperature=0.01)
  )(z)
  assert loss.dtype == jnp.float32
  assert jnp.isfinite(loss)
  assert all(jnp.isfinite(g).all() for g in gradient)


@pytest.mark.parametrize('labeled', [True, False])
@pytest.mark.parametrize('block', [512, 8])
def test_replicas_together_equal_one_device(labeled, block, monkeypatch):
  monkeypatch.setattr(supcon_lib, '_BLOCK_ROWS', block)
  rows = embeddings(48, 8)  # 12 rows a device, blocks of 8 not full
  labels = classes(48)

  def loss(rows, labels, axis_name=None):
    # Not the compiled one: it would remember another test's block.
    return supcon_lib.supcon(
      rows,
      labels if labeled else None,
      temperature=0.1,
      axis_name=axis_name,
    )

  ours = replicas.value_and_grad(loss, rows, labels)
  replicas.assert_same(ours, jax.value_and_grad(loss)(rows, labels))


def test_memory_is_that_of_one_block():
  def temporary_bytes(n):
    z = jax.ShapeDtypeStruct((n, 128), jnp.float32)
    labels = jax.ShapeDtypeStruct((n,), jnp.int32)
    compiled = (
      jax.jit(
        jax.value_and_grad(lambda z, y: supcon((z, z), y, temperature=0.1))
      )
      .lower(z, labels)
      .compile()
    )
    return compiled.memory_analysis().temp_size_in_bytes

  # The whole matrix at 4,096 pairs is 8,192 x 8,192 x 4 bytes = 256 MiB.
  assert temporary_bytes(4096) < 128 * 2**20
