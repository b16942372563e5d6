import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.models import positions


def random_table(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_sincos_is_moco_v3s():
  table = positions.sincos((2, 3), 8)
  assert (table.shape, table.dtype) == ((1, 7, 8), np.float32)
  np.testing.assert_array_equal(table[0, 0], 0)
  sin, cos = [math.sin(1), math.sin(0.01)], [math.cos(1), math.cos(0.01)]
  # Patches go along rows: (0, 1) is the second, (1, 0) the fourth.
  np.testing.assert_allclose(table[0, 2], [0, 0, 1, 1, *sin, *cos], atol=1e-7)
  np.testing.assert_allclose(table[0, 4], [*sin, *cos, 0, 0, 1, 1], atol=1e-7)
  np.testing.assert_allclose(
    table[0, 2, 4:], [0.841471, 0.0099998, 0.540302, 0.99995], atol=1e-6
  )


# PyTorch's bicubic interpolation of one axis, one output at a time.


def torch_bicubic(x, size, scale_factor):
  a, out = -0.75, []
  for i in range(size):
    at = (i + 0.5) / scale_factor - 0.5
    left = math.floor(at)
    t = at - left
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    far = [a * (((d - 5) * d + 8) * d - 4) for d in (t + 1, 2 - t)]
    weights = (far[0], near[0], near[1], far[1])
    taps = [x[min(max(left + j, 0), len(x) - 1)] for j in (-1, 0, 1, 2)]
    out.append(sum(w * x for w, x in zip(weights, taps, strict=True)))
  return np.stack(out)


def torch_interpolated(table, old, new):
  """DINO's interpolate_pos_encoding of patches in float64."""
  x = table[0, 1:].reshape(*old, -1).astype(float)
  x = torch_bicubic(x, new[0], (new[0] + 0.1) / old[0])
  x = torch_bicubic(x.swapaxes(0, 1), new[1], (new[1] + 0.1) / old[1])
  return x.swapaxes(0, 1).reshape(-1, table.shape[-1])


@pytest.mark.parametrize(
  'old, new',
  [((14, 14), (6, 6)), ((14, 14), (16, 9)), ((5, 4), (7, 3)), ((3, 3), (9, 1))],
)
def test_dino_is_torchs_bicubic(old, new):
  table = random_table(1, 1 + math.prod(old), 3)
  resized = positions.resize(jnp.asarray(table), old, new, 'dino')
  np.testing.assert_array_equal(resized[:, 0], table[:, 0])
  np.testing.assert_allclose(
    resized[0, 1:], torch_interpolated(table, old, new), atol=5e-6
  )


@pytest.mark.parametrize('new', [1, 6, 13, 14, 15, 37])
def test_rows_of_the_matrix_sum_to_one(new):
  matrix = positions.bicubic_matrix(14, new)
  assert (matrix.shape, matrix.dtype) == ((new, 14), np.float32)
  np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)


# torch.nn.functional.interpolate(x, 6, mode="bicubic", antialias=True) and,
# for DINO, scale_factor=6.1 / 14 without antialias, of x = sin(1.3 i^2),
# i = 0, ..., 13; PyTorch 2.14.1.
TORCH = {
  'timm': [0.201171, -0.245175, 0.769896, 0.474299, -0.631562, -0.428489],
  'dino': [0.844893, -0.836447, 0.743837, 1.127013, -1.078641, -0.968910],
}


@pytest.mark.parametrize('interpolation', positions.INTERPOLATIONS)
def test_values_of_torch(interpolation):
  x = np.sin(1.3 * np.arange(14.0) ** 2).astype(np.float32)
  # The same in every row: rows of weights sum to 1.
  table = jnp.asarray(np.append(0, np.tile(x, 14)).reshape(1, -1, 1))
  resized = positions.resize(table, (14, 14), (6, 6), interpolation)
  rows = resized[0, 1:].reshape(6, 6)
  expected = TORCH['dino' if interpolation == 'dino' else 'timm']
  for row in rows:
    np.testing.assert_allclose(row, expected, atol=2e-6)


@pytest.mark.parametrize('interpolation', positions.INTERPOLATIONS)
def test_the_same_grid_keeps_the_table(interpolation):
  table = jnp.asarray(random_table(1, 13, 2))
  for new in ((3, 4), (4, 3)):  # as many patches, elsewhere
    resized = positions.resize(table, (3, 4), new, interpolation)
    assert resized.shape == (1, 13, 2)
    assert np.array_equal(resized, table) == (new == (3, 4))


@pytest.mark.parametrize('interpolation', positions.INTERPOLATIONS)
def test_a_constant_table_stays_constant(interpolation):
  table = jnp.ones((1, 197, 2))
  resized = positions.resize(table, (14, 14), (7, 5), interpolation)
  np.testing.assert_allclose(resized, 1, atol=1e-6)


@pytest.mark.parametrize('interpolation', positions.INTERPOLATIONS)
def test_the_gradient_reaches_the_table(interpolation):
  """Every output's gradient sums to 1 over the table, as its weights do."""
  table = jnp.asarray(random_table(1, 197, 1))

  def total(table):
    return positions.resize(table, (14, 14), (6, 6), interpolation)[0, 1:].sum()

  gradient = jax.grad(total)(table)
  np.testing.assert_allclose(gradient[0, 1:].sum(), 36, rtol=1e-5)
  assert gradient[0, 0] == 0
  # Without antialiasing 4 of 14 / 6 patches are looked at, which leaves none
  # out, but for the borders.
  assert jnp.all(gradient[0, 1:].reshape(14, 14)[1:-1, 1:-1] != 0)


def test_patches_have_to_tile():
  assert positions.grid_of((32, 48, 3), 16) == (2, 3)
  message = r'images of 100 x 96 .* 16 x 16 .*; those of 96 x 96 can\.'
  with pytest.raises(ValueError, match=message):
    positions.grid_of((100, 96, 3), 16)
  with pytest.raises(ValueError, match='those of 16 x 16 can'):
    positions.grid_of((8, 8, 3), 16)
