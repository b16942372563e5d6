import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from contrastive_jax.evaluation import features as features_lib


def _batches(total=37, size=16, seed=0):
  """Yields all of `total` images once, in shuffled order, the rest padding."""
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (total, 4, 4, 3)).astype(np.uint8)
  ids = rng.permutation(total).astype(np.int32)
  for start in range(0, total, size):
    part = ids[start : start + size]
    lack = size - len(part)
    yield {
      'input': np.pad(images[part], [(0, lack)] + [(0, 0)] * 3),
      'id': np.pad(part, (0, lack), constant_values=-1),
      'label': np.pad(part % 3, (0, lack), constant_values=-1),
      'mask': np.arange(size) < len(part),
    }


def _project(params, images):
  x = images.reshape(len(images), -1).astype(jnp.float32) / 255
  return jnp.tanh(x @ params)


@pytest.mark.parametrize('devices', [1, 8])
def test_extract_returns_every_row_once_in_id_order(devices):
  rng = np.random.default_rng(0)
  params = rng.normal(size=(48, 5)).astype(np.float32)
  mesh = Mesh(np.array(jax.devices()[:devices]), ('data',))
  fn = jax.tree_util.Partial(_project, params)
  rows, labels, ids = features_lib.extract(fn, _batches(), mesh=mesh)
  raw, raw_labels, raw_ids = features_lib.flattened(_batches())
  np.testing.assert_array_equal(ids, np.arange(37))
  np.testing.assert_array_equal(labels, np.arange(37) % 3)
  np.testing.assert_array_equal(raw_ids, ids)
  np.testing.assert_array_equal(raw_labels, labels)
  assert raw.max() <= 1 and raw.dtype == np.float32
  np.testing.assert_allclose(rows, np.tanh(raw @ params), atol=1e-5)
  assert (rows.dtype, labels.dtype, ids.dtype) == ('f4', 'i4', 'i4')


def test_extract_takes_closures_and_parameters_of_all_devices():
  replicated = jax.sharding.NamedSharding(
    Mesh(np.array(jax.devices()), ('replica',)), jax.sharding.PartitionSpec()
  )
  params = jax.device_put(jnp.ones((48, 2)), replicated)
  closure = features_lib.extract(lambda x: _project(params, x), _batches())[0]
  one = Mesh(np.array(jax.devices()[:1]), ('data',))
  fn = jax.tree_util.Partial(_project, params)
  partial = features_lib.extract(fn, _batches(), mesh=one)[0]
  np.testing.assert_allclose(closure, partial, atol=1e-6)


def test_extract_compiles_once_for_two_checkpoints():
  traces = []

  def counted(params, images):
    traces.append(1)
    return _project(params, images)

  for scale in (1.0, 2.0):
    fn = jax.tree_util.Partial(counted, jnp.full((48, 2), scale))
    features_lib.extract(fn, _batches())
  assert len(traces) == 1


def test_extract_refuses_what_it_cannot_do():
  with pytest.raises(ValueError, match='batch of 12 images .* by 8 devices'):
    features_lib.extract(lambda x: x, _batches(size=12))
  with pytest.raises(ValueError, match='no images'):
    features_lib.extract(lambda x: x, [])


def test_an_encoder_in_training_mode_is_noticed():
  images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)

  def frozen(scale, x):
    return scale * x.reshape(len(x), -1)

  def normalizing(scale, x):
    x = frozen(scale, x)
    return x - x.mean(axis=0)

  scale = jnp.asarray(0.01)
  features_lib.assert_frozen(jax.tree_util.Partial(frozen, scale), images)
  with pytest.raises(RuntimeError, match='in training mode'):
    features_lib.assert_frozen(
      jax.tree_util.Partial(normalizing, scale), images
    )
