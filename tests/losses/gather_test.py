import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax.losses import gather
from contrastive_jax.training.step import AXIS, make_mesh


def test_rows_come_in_the_order_of_the_batch_and_alike():
  x = np.arange(32.0).reshape(16, 2)

  def local(x):
    return (
      gather.all_rows_replicated(x, AXIS),  # P(): refused if it were not alike
      gather.first_row(len(x), AXIS)[None],
    )

  rows, first = jax.jit(
    jax.shard_map(
      local, mesh=make_mesh(), in_specs=P(AXIS), out_specs=(P(), P(AXIS))
    )
  )(x)
  np.testing.assert_array_equal(rows, x)
  np.testing.assert_array_equal(first, np.arange(0, 16, 2))


@pytest.mark.parametrize('with_gradient', [True, False])
def test_gradient_reaches_every_replica_or_none(with_gradient):
  x = np.arange(16.0, dtype=np.float32).reshape(8, 2)
  function = gather.all_rows if with_gradient else gather.all_rows_replicated

  def local(x):
    # Each replica's loss is of its own row times all rows.
    def loss(y):
      return jax.numpy.sum(function(y, AXIS) * (1 + jax.lax.axis_index(AXIS)))

    return jax.grad(loss)(x)

  gradient = jax.jit(
    jax.shard_map(local, mesh=make_mesh(), in_specs=P(AXIS), out_specs=P(AXIS))
  )(x)
  np.testing.assert_allclose(gradient, 36.0 if with_gradient else 0.0)


def test_without_an_axis():
  x = np.ones((3, 2), np.float32)
  np.testing.assert_array_equal(gather.all_rows(x, None), x)
  np.testing.assert_array_equal(gather.all_rows_replicated(x, None), x)
  assert gather.first_row(3, None) == 0
  assert gather.mean(x, None) is x
