import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.losses import _dcl as dcl_lib
from contrastive_jax.losses import negatives
from contrastive_jax.losses._nt_xent import nt_xent_and_statistics
from tests.losses import replicas

dcl = jax.jit(
  dcl_lib.dcl, static_argnames=('temperature', 'weight_sigma', 'axis_name')
)


def weights(u_a, u_b, sigma):
  """DCLW's, of the paper: 2 - exp(.) / mean of exp(.)."""
  if sigma is None:
    return np.ones(len(u_a))
  scores = np.exp(np.sum(u_a * u_b, axis=1) / sigma)
  return 2 - scores / scores.mean()


def oracle(z_a, z_b, temperature, sigma, weight=None):
  """The equation, in float64, one anchor at a time."""
  u_a, u_b = (
    z.astype(np.float64) / np.linalg.norm(z, axis=1, keepdims=True)
    for z in (z_a, z_b)
  )
  weight = weights(u_a, u_b, sigma) if weight is None else weight
  losses = []
  for one, other in ((u_a, u_b), (u_b, u_a)):
    for i in range(len(one)):
      negatives = [
        np.exp(one[i] @ u[j] / temperature)
        for u in (one, other)
        for j in range(len(one))
        if j != i
      ]
      positive = one[i] @ other[i] / temperature
      losses.append(np.log(np.sum(negatives)) - weight[i] * positive)
  return np.mean(losses)


def embeddings(n, d):
  rng = np.random.default_rng(0)
  return tuple(rng.normal(size=(n, d)).astype(np.float32) for _ in range(2))


@pytest.mark.parametrize('n', [2, 7, 300])  # 300: two blocks, one not full
@pytest.mark.parametrize('sigma', [None, 0.5])
def test_equals_the_equation(n, sigma):
  z_a, z_b = embeddings(n, 16)
  loss = dcl(z_a, z_b, temperature=0.1, weight_sigma=sigma)
  np.testing.assert_allclose(loss, oracle(z_a, z_b, 0.1, sigma), rtol=1e-5)


@pytest.mark.parametrize('sigma', [None, 0.5])
def test_gradient_equals_finite_differences_with_constant_weights(sigma):
  z_a, z_b = (z.astype(np.float64) for z in embeddings(4, 3))
  gradient = jax.grad(dcl)(z_a, z_b, temperature=0.5, weight_sigma=sigma)
  u_a, u_b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (z_a, z_b))
  weight = weights(u_a, u_b, sigma)
  for index in np.ndindex(*z_a.shape):
    step = np.zeros(z_a.shape)
    step[index] = 1e-5
    slope = (
      oracle(z_a + step, z_b, 0.5, sigma, weight)
      - oracle(z_a - step, z_b, 0.5, sigma, weight)
    ) / 2e-5
    np.testing.assert_allclose(gradient[index], slope, atol=1e-6)


@pytest.mark.parametrize('sigma', [None, 0.5])
def test_closed_forms(sigma):
  loss = functools.partial(dcl, temperature=0.1, weight_sigma=sigma)
  same = np.ones((8, 4), np.float32)
  np.testing.assert_allclose(loss(same, same), math.log(14), rtol=1e-5)
  eye = np.eye(8, dtype=np.float32)
  np.testing.assert_allclose(loss(eye, eye), math.log(14) - 10, rtol=1e-5)


def test_statistics_are_those_of_nt_xent():
  z_a, z_b = embeddings(7, 4)
  _, ours = dcl_lib.dcl_and_statistics(z_a, z_b, temperature=0.2)
  _, theirs = nt_xent_and_statistics(z_a, z_b, temperature=0.2)
  assert ours.keys() == theirs.keys()
  for name, value in theirs.items():
    np.testing.assert_allclose(ours[name], value, rtol=1e-5, err_msg=name)


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
  z_a, z_b = (fill(jnp.asarray(z, dtype)) for z in embeddings(6, 8))
  loss, gradient = jax.value_and_grad(dcl, argnums=(0, 1))(
    z_a, z_b, temperature=0.01, weight_sigma=0.01
  )
  assert loss.dtype == jnp.float32
  assert jnp.isfinite(loss)
  assert all(jnp.isfinite(g).all() for g in gradient)


def test_one_image_has_no_negatives():
  z_a, z_b = embeddings(1, 4)
  with pytest.raises(ValueError, match='no negatives'):
    dcl(z_a, z_b, temperature=0.1)


@pytest.mark.parametrize('sigma', [None, 0.5])
@pytest.mark.parametrize('block', [512, 8])
def test_replicas_together_equal_one_device(sigma, block, monkeypatch):
  monkeypatch.setattr(negatives, '_BLOCK_ROWS', block)
  rows = embeddings(48, 8)  # 12 rows a device, blocks of 8 not full

  def loss(rows, axis_name=None):
    # Not the compiled one: it would remember another test's block.
    return dcl_lib.dcl(
      *rows, temperature=0.1, weight_sigma=sigma, axis_name=axis_name
    )

  ours = replicas.value_and_grad(loss, rows)
  replicas.assert_same(ours, jax.value_and_grad(loss)(rows))
