"""The whole step on 2, 4 and 8 devices is that of one."""

import jax
import numpy as np
import pytest

from contrastive_jax.training import parity, step
from contrastive_jax.training.parity import relative_errors
from tests import tiny

DEVICES = [2, 4, 8]


def gradient_on(devices: int, mapping: str, **changes):
  """Gradient, model state and metrics of one batch on some devices."""
  config = tiny.config()
  config.update_from_flattened_dict(changes)
  return parity.gradient_on(config, devices, mapping)


@pytest.fixture(scope='module')
def one_device():
  return gradient_on(1, 'shard_map')


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
@pytest.mark.parametrize('devices', DEVICES)
def test_loss_gradient_and_statistics(devices, mapping, one_device):
  gradient, model_state, metrics = gradient_on(devices, mapping)
  whole_gradient, whole_model_state, whole_metrics = one_device
  assert max(relative_errors(gradient, whole_gradient)) < 1e-5
  assert max(relative_errors(model_state, whole_model_state)) < 1e-5
  for name, value in whole_metrics.items():
    np.testing.assert_allclose(
      metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name
    )


@pytest.mark.parametrize(
  'norm',
  ['ghost:4', 'ghost:32'],  # within a device's 8 rows a view; over 4 devices
)
def test_ghost_norm(norm):
  gradients = [
    gradient_on(devices, 'shard_map', **{'encoder.norm': norm})[:2]
    for devices in (8, 1)
  ]
  assert max(relative_errors(*gradients)) < 1e-5


def test_bfloat16_is_near_float32(one_device):
  gradient, _, metrics = gradient_on(
    8, 'shard_map', **{'encoder.dtype': 'bfloat16'}
  )
  ours, theirs = (
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    for tree in (gradient, one_device[0])
  )
  assert ours.dtype == np.float32
  cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
  assert cosine > 0.97
  np.testing.assert_allclose(metrics['loss'], one_device[2]['loss'], rtol=0.02)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
def test_a_forgotten_or_an_added_mean_is_noticed(
  mapping, one_device, monkeypatch
):
  """The mistakes that a loss value does not show, made on purpose."""
  reference = one_device[0]

  def error_with(name, wrong):
    with monkeypatch.context() as patch:
      patch.setattr(step, name, wrong)
      gradient, _, _ = gradient_on(2, mapping)
    return max(relative_errors(gradient, reference))

  def sums(tree):
    return jax.tree.map(lambda x: jax.lax.psum(x, step.AXIS), tree)

  right = step._replica_mean
  assert error_with('_replica_mean', right) < 1e-5
  assert error_with('_replica_mean', sums) > 0.1
  if mapping == 'pmap':  # shard_map sees it without running anything
    assert error_with('_replica_mean', lambda tree: tree) > 0.1
  else:
    with pytest.raises(ValueError, match='replicated|replication'):
      error_with('_replica_mean', lambda tree: tree)
    # Without the cast, the gradient is summed before the mean is taken.
    assert error_with('_varying', lambda tree: tree) > 0.1


def test_an_error_that_is_no_number_is_infinite():
  a, b = np.ones(3), np.ones(3)
  assert relative_errors([a, np.full(3, np.nan)], [b, b])[1] == np.inf
