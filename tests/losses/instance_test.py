import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax.losses import _instance as instance


def normalized(z):
  return z.astype(np.float64) / np.linalg.norm(z, axis=1, keepdims=True)


def softmax_oracle(z, ids, bank, temperature):
  v, losses = normalized(z), []
  for i, own in enumerate(ids):
    logits = [v[i] @ m / temperature for m in bank.astype(np.float64)]
    losses.append(np.log(np.sum(np.exp(logits))) - logits[own])
  return np.mean(losses)


def nce_oracle(z, ids, noise, bank, temperature, normalizer=None):
  """The equation, in float64, one probability at a time; and Z."""
  v, size, count = normalized(z), len(bank), noise.shape[1]
  exponential = [
    [np.exp(v[i] @ bank[n] / temperature) for n in (ids[i], *noise[i])]
    for i in range(len(v))
  ]
  normalizer = normalizer or size * np.mean(exponential)
  c, losses = count / size, []
  for row in exponential:
    own, *others = np.array(row) / normalizer
    loss = -np.log(own / (own + c + 1e-7))
    loss -= sum(np.log(c / (p + c + 1e-7)) for p in others)
    losses.append(loss)
  return np.mean(losses), normalizer


def example(images=6, size=50, dimensions=8, count=7):
  rng = np.random.default_rng(0)
  z = rng.normal(size=(images, dimensions)).astype(np.float32)
  bank = normalized(rng.normal(size=(size, dimensions))).astype(np.float32)
  ids = rng.permutation(size)[:images].astype(np.int32)
  noise = rng.integers(size, size=(images, count)).astype(np.int32)
  return z, ids, noise, bank


def slopes(oracle, z):
  result = np.zeros(z.shape)
  for index in np.ndindex(*z.shape):
    step = np.zeros(z.shape)
    step[index] = 1e-5
    result[index] = (oracle(z + step) - oracle(z - step)) / 2e-5
  return result


def full_softmax(z, ids, bank, temperature=0.1):
  return instance.full_softmax(
    z, jnp.asarray(ids), jnp.asarray(bank), temperature=temperature
  )


def nce(z, ids, noise, bank, log_z=-np.inf, **options):
  arrays = (jnp.asarray(x) for x in (ids, noise, bank, log_z))
  return instance.nce(z, *arrays, **(dict(temperature=0.1) | options))


@functools.partial(jax.jit, static_argnames=('momentum', 'axis_name'))
def update_bank(bank, ids, z, **options):
  return instance.update_bank(jnp.asarray(bank), jnp.asarray(ids), z, **options)


@pytest.mark.parametrize('block', [8192, 16])  # 50 rows: four, one not full
def test_softmax_equals_the_equation(block, monkeypatch):
  monkeypatch.setattr(instance, '_BLOCK_ROWS', block)
  z, ids, _, bank = example()
  (value, statistics), gradient = jax.jit(
    jax.value_and_grad(lambda z: full_softmax(z, ids, bank), has_aux=True)
  )(z)
  np.testing.assert_allclose(
    value, softmax_oracle(z, ids, bank, 0.1), rtol=1e-5
  )
  np.testing.assert_allclose(
    gradient,
    slopes(lambda z: softmax_oracle(z, ids, bank, 0.1), z.astype(float)),
    atol=1e-4,
  )
  cosines = normalized(z) @ bank.T
  own = cosines[np.arange(6), ids]
  p = np.exp(cosines / 0.1) / np.exp(cosines / 0.1).sum(axis=1, keepdims=True)
  others = np.where(np.arange(50) == ids[:, None], -np.inf, cosines)
  expected = {
    'contrastive_accuracy': np.mean(own > others.max(axis=1)),
    'entropy': -(p * np.log(p)).sum(axis=1).mean(),
    'positive_similarity': own.mean(),
    'hardest_negative_similarity': others.max(axis=1).mean(),
  }
  assert statistics.keys() == expected.keys()
  for name, result in expected.items():
    np.testing.assert_allclose(statistics[name], result, rtol=1e-5)


@pytest.mark.parametrize('chunk', [32, 4])  # 6 images: one chunk not full
def test_nce_equals_the_equation(chunk, monkeypatch):
  monkeypatch.setattr(instance, '_BLOCK_IMAGES', chunk)
  z, ids, noise, bank = example()
  noise[0, 0] = ids[0]  # noise may hit the own row

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss(z, log_z):
    value, log_z, statistics = nce(z, ids, noise, bank, log_z)
    return value, (log_z, statistics)

  expected, normalizer = nce_oracle(z, ids, noise, bank, 0.1)
  (value, (log_z, statistics)), gradient = loss(z, -np.inf)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(log_z, np.log(normalizer), rtol=1e-5)
  np.testing.assert_allclose(
    gradient,
    slopes(  # with Z a constant
      lambda z: nce_oracle(z, ids, noise, bank, 0.1, normalizer)[0],
      z.astype(float),
    ),
    atol=1e-4,
  )
  cosines = np.einsum('bd,bkd->bk', normalized(z), bank[noise])
  cosines[noise == ids[:, None]] = -1
  np.testing.assert_allclose(
    statistics['hardest_negative_similarity'],
    cosines.max(axis=1).mean(),
    rtol=1e-5,
  )
  # Z stays what it was once.
  (value, (log_z, _)), _ = loss(z, math.log(1000))
  np.testing.assert_allclose(log_z, math.log(1000), rtol=1e-5)
  np.testing.assert_allclose(
    value, nce_oracle(z, ids, noise, bank, 0.1, 1000.0)[0], rtol=1e-5
  )


def test_closed_forms():
  z, ids, _, _ = example()
  one = np.zeros((6, 4), np.float32)
  one[:, 0] = 3.0
  same = np.tile(one[:1] / 3, (50, 1))
  np.testing.assert_allclose(
    full_softmax(one, ids, same)[0], math.log(50), rtol=1e-5
  )
  value, log_z, _ = nce(one, ids, np.zeros((6, 4096), np.int32), same)
  np.testing.assert_allclose(
    value, math.log(4097) + 4096 * math.log(4097 / 4096), rtol=1e-5
  )
  assert instance.nce_chance(4096, 50) == pytest.approx(9.3179, abs=1e-4)
  np.testing.assert_allclose(log_z, math.log(50) + 10, rtol=1e-5)
  # Each image at its own row, all others at right angles.
  eye = np.eye(8, dtype=np.float32)
  np.testing.assert_allclose(
    full_softmax(eye[:3], np.arange(3), eye)[0],
    math.log1p(7 * math.exp(-10)),
    atol=2e-6,
  )


def test_chance_of_nce_is_its_value_where_all_probabilities_are_alike():
  p, c = 1 / 1_281_167, 4096 / 1_281_167
  expected = -math.log(p / (p + c + 1e-7))
  expected -= 4096 * math.log(c / (p + c + 1e-7))
  assert expected > 9.4  # epsilon is of account in a large bank
  assert instance.nce_chance(4096, 1_281_167) == pytest.approx(expected)


def test_noise_hangs_on_the_id_alone_and_is_uniform():
  key = jax.random.key(0)
  ids = jnp.array([5, 3, 8])
  noise = instance.draw_noise(key, ids, 2000, 10)
  np.testing.assert_array_equal(
    instance.draw_noise(key, ids[::-1], 2000, 10), noise[::-1]
  )
  assert not np.array_equal(noise[0], noise[1])
  counts = np.bincount(np.ravel(noise), minlength=10)
  assert len(counts) == 10 and np.all(np.abs(counts - 600) < 5 * 600**0.5)


def test_bank_moves_the_rows_of_the_batch_and_no_others():
  z, ids, _, bank = example()
  new = np.asarray(update_bank(bank, ids, z, momentum=0.5))
  expected = bank.copy()
  expected[ids] = normalized(0.5 * bank[ids] + 0.5 * normalized(z))
  np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-7)
  untouched = np.setdiff1d(np.arange(50), ids)
  np.testing.assert_array_equal(new[untouched], bank[untouched])


def test_of_an_image_that_is_in_the_batch_twice_the_later_counts():
  z, _, _, bank = example(images=3)
  ids = np.array([4, 9, 4])
  new = np.asarray(update_bank(bank, ids, z, momentum=0.0))
  np.testing.assert_allclose(new[4], normalized(z)[2], rtol=1e-5)
  np.testing.assert_allclose(new[9], normalized(z)[1], rtol=1e-5)


@functools.partial(jax.jit, static_argnames='temperature')
@functools.partial(jax.value_and_grad, has_aux=True)
def total(z, ids, noise, bank, temperature):
  softmax, _ = full_softmax(z, ids, bank, temperature)
  first, log_z, _ = nce(z, ids, noise, bank, temperature=temperature)
  late, _, _ = nce(z, ids, noise, bank, 4.0, temperature=temperature)
  return softmax + first + late, log_z


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
@pytest.mark.parametrize('temperature', [0.1, 0.01])
def test_finite_in_adverse_batches(fill, dtype, temperature):
  z, ids, noise, bank = example()
  z = fill(jnp.asarray(z, dtype))
  bank = bank.copy()
  bank[ids[1]] = 0
  bank[ids[2]] = -1 / math.sqrt(8)

  (value, log_z), gradient = total(z, ids, noise, bank, temperature)
  assert value.dtype == jnp.float32
  assert jnp.isfinite(value) and jnp.isfinite(log_z)
  assert jnp.isfinite(gradient).all()
  assert jnp.isfinite(update_bank(bank, ids, z, momentum=0.5)).all()


def test_replicas_together_equal_one_device():
  z, ids, noise, bank = example(images=48, size=100)
  ids[40] = ids[3]  # one image twice, on two devices
  mesh = jax.make_mesh(
    (8,), ('replica',), axis_types=(jax.sharding.AxisType.Auto,)
  )

  def losses(z, ids, noise, bank, axis_name=None):
    softmax, _ = full_softmax(z, ids, bank)
    contrast, log_z, _ = nce(z, ids, noise, bank, axis_name=axis_name)
    bank = update_bank(bank, ids, z, momentum=0.5, axis_name=axis_name)
    return softmax + 0.1 * contrast, (log_z, bank)

  def local(z, ids, noise, bank):
    (value, state), gradient = jax.value_and_grad(losses, has_aux=True)(
      z, ids, noise, bank, 'replica'
    )
    # The loss of the whole batch is the mean of the replicas' losses.
    return (jax.lax.pmean(value, 'replica'), state), gradient / 8

  # The default check proves that the bank and Z are alike on all replicas.
  sharded = jax.jit(
    jax.shard_map(
      local,
      mesh=mesh,
      in_specs=(P('replica'), P('replica'), P('replica'), P()),
      out_specs=(P(), P('replica')),
    )
  )(z, ids, noise, bank)
  whole = jax.jit(jax.value_and_grad(losses, has_aux=True))(z, ids, noise, bank)
  for ours, theirs in zip(
    jax.tree.leaves(sharded), jax.tree.leaves(whole), strict=True
  ):
    error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    assert error < 1e-5


def test_memory_is_that_of_one_block_of_the_bank():
  shapes = (
    jax.ShapeDtypeStruct((256, 128), jnp.float32),
    jax.ShapeDtypeStruct((256,), jnp.int32),
    jax.ShapeDtypeStruct((300_000, 128), jnp.float32),
  )
  gradient_fn = jax.jit(jax.value_and_grad(full_softmax, has_aux=True))
  compiled = gradient_fn.lower(*shapes).compile()
  # All logits at once are 256 x 300,000 x 4 bytes = 293 MiB.
  assert compiled.memory_analysis().temp_size_in_bytes < 64 * 2**20
