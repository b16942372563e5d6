"""SigLIP's loss: an oracle, closed forms, and texts that go around."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax import losses
from contrastive_jax.losses import gather
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.objectives.siglip import chance_value
from contrastive_jax.training.step import AXIS, make_mesh
from tests.losses import replicas

RNG = np.random.default_rng(0)
A, B = (RNG.normal(size=(16, 8)).astype(np.float32) for _ in range(2))


def gathered(z_a, z_b, *, scale, bias, axis_name=None):
  """The equation, with all texts at hand and a matrix of labels."""
  u, v = l2_normalize(z_a), gather.all_rows(l2_normalize(z_b), axis_name)
  logits = scale * u @ v.T + bias
  own = gather.first_row(len(u), axis_name) + jnp.arange(len(u))
  y = 2.0 * (jnp.arange(len(v)) == own[:, None]) - 1
  return -jnp.sum(jax.nn.log_sigmoid(y * logits)) / len(u)


@pytest.mark.parametrize(('scale', 'bias'), [(10.0, -10.0), (1.0, 0.0)])
def test_value_and_gradient_by_the_equation(scale, bias):
  args = A, B, jnp.float32(scale), jnp.float32(bias)

  def of(loss):
    return jax.value_and_grad(
      lambda a, b, s, t: loss(a, b, scale=s, bias=t), argnums=(0, 1, 2, 3)
    )(*args)

  (ours, gradient), (theirs, expected) = of(losses.siglip), of(gathered)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  for one, other in zip(gradient, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ('cosine_own', 'cosine_other', 'n', 'bias', 'value'),
  # methods-2026, section 28: all cosines 0, aligned, collapsed.
  [
    (0, 0, 256, -10.0, 10.0116),
    (1, 0, 256, -10.0, 0.7047),
    (1, 1, 64, -10.0, 64 * np.log(2)),
    (0, 0, 256, -2.71, 19.20),
    (0, 0, 256, -np.log(255), 6.543),
  ],
)
def test_closed_forms(cosine_own, cosine_other, n, bias, value):
  eye = np.eye(2 * n, dtype=np.float32)
  a, b = eye[:n], eye[:n] if cosine_own else eye[n:]
  if cosine_other:
    a = b = np.ones((n, 4), np.float32)
  found = losses.siglip(a, b, scale=10.0, bias=bias)
  np.testing.assert_allclose(found, value, rtol=2e-3)


def test_chance_is_the_best_that_a_bias_can_do():
  eye = np.eye(64, dtype=np.float32)
  a, b = eye[:32], eye[32:]
  values = [
    float(losses.siglip(a, b, scale=1.0, bias=bias))
    for bias in (-np.log(31) - 0.1, -np.log(31), -np.log(31) + 0.1)
  ]
  assert values[1] == min(values)
  np.testing.assert_allclose(values[1], chance_value(32), rtol=1e-5)


@pytest.mark.parametrize('devices', [2, 8])
@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
def test_around_the_devices_is_one_device(devices, mapping):
  def loss(z, axis_name=None):
    return losses.siglip(*z, scale=10.0, bias=-2.0, axis_name=axis_name)

  ours = replicas.value_and_grad(loss, (A, B), devices=devices, mapping=mapping)
  replicas.assert_same(ours, jax.value_and_grad(loss)((A, B)))


def test_the_ring_is_what_is_gathered():
  def of(form):
    return replicas.value_and_grad(
      lambda z, axis_name: form(*z, scale=8.0, bias=-3.0, axis_name=axis_name),
      (A, B),
    )

  replicas.assert_same(of(losses.siglip), of(gathered))


def test_scale_and_bias_have_the_gradient_of_one_device():
  def loss(scalars, a, b, axis_name=None):
    scale, bias = scalars
    return losses.siglip(a, b, scale=scale, bias=bias, axis_name=axis_name)

  def local(scalars, a, b):
    scalars = jax.lax.pcast(scalars, AXIS, to='varying')
    gradient = jax.grad(loss)(scalars, a, b, axis_name=AXIS)
    return jax.lax.pmean(gradient, AXIS)

  scalars = jnp.float32(5.0), jnp.float32(-2.0)
  mapped = jax.shard_map(
    local, mesh=make_mesh(), in_specs=(P(), P(AXIS), P(AXIS)), out_specs=P()
  )
  np.testing.assert_allclose(
    mapped(scalars, A, B), jax.grad(loss)(scalars, A, B), rtol=1e-4
  )


def test_memory_is_linear_in_the_local_batch():
  """Nothing of the size of the gathered texts, or of all logits, is held."""
  b, d = 256, 16

  def local(a, z):
    gradient = jax.grad(
      lambda z: losses.siglip(*z, scale=10.0, bias=-2.0, axis_name=AXIS)
    )((a, z))
    return gradient

  def temporary(devices):
    mesh = make_mesh(jax.devices()[:devices])
    mapped = jax.jit(
      jax.shard_map(
        local, mesh=mesh, in_specs=(P(AXIS), P(AXIS)), out_specs=P(AXIS)
      )
    )
    rows = jax.ShapeDtypeStruct((devices * b, d), jnp.float32)
    compiled = mapped.lower(rows, rows).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  # A block of logits is 256 KiB; those of all would be 2 MiB on 8 devices.
  assert temporary(8) < 1.1 * temporary(2)
