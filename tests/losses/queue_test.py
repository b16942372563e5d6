import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from contrastive_jax.losses import gather, queue
from contrastive_jax.training.step import AXIS, make_mesh


def test_first_in_first_out():
  rows, pointer = jnp.zeros((6, 1)), jnp.zeros((), jnp.int32)
  enqueue = jax.jit(queue.enqueue)
  for step in range(1, 6):
    new = jnp.array([[10.0 * step], [10.0 * step + 1]])
    rows, pointer = enqueue(rows, pointer, new)
    np.testing.assert_array_equal(rows[2 * ((step - 1) % 3) :][:2], new)
    assert pointer == 2 * step % 6
    assert pointer.dtype == jnp.int32
  # Steps 3 to 5 are what is left, the next to go being step 3's.
  np.testing.assert_array_equal(rows[:, 0], [40, 41, 50, 51, 30, 31])
  assert pointer == 4


@pytest.mark.parametrize('size', [0, 100])
def test_a_size_that_the_rows_do_not_divide_is_refused(size):
  with pytest.raises(ValueError, match=f'queue_size is {size}, not a.* 64'):
    queue.check_size(size, 64)


def test_begins_with_directions_spread_over_the_sphere():
  rows = queue.random_rows(jax.random.key(0), 4096, 16)
  np.testing.assert_allclose(jnp.linalg.norm(rows, axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(rows.mean(axis=0), 0, atol=0.02)
  np.testing.assert_allclose(rows.std(axis=0), 0.25, rtol=0.05)


def test_a_stored_row_is_its_own_nearest_neighbor():
  rows = queue.random_rows(jax.random.key(0), 50, 4)
  index, similarity = queue.nearest(rows, 3.0 * rows[::5])
  np.testing.assert_array_equal(index, np.arange(0, 50, 5))
  np.testing.assert_allclose(similarity, 1, rtol=1e-5)


def test_the_nearest_neighbor_is_the_nearest_and_has_no_gradient():
  rows = queue.random_rows(jax.random.key(0), 30, 4)
  z = jax.random.normal(jax.random.key(1), (7, 4))
  index, similarity = queue.nearest(rows, z)
  for i, row in enumerate(np.asarray(z, np.float64)):
    distances = np.linalg.norm(rows - row / np.linalg.norm(row), axis=1)
    assert index[i] == np.argmin(distances)
    np.testing.assert_allclose(
      similarity[i], 1 - distances.min() ** 2 / 2, rtol=1e-5
    )
  for function in (
    lambda z: queue.nearest(rows, z)[1].sum(),
    lambda z: rows[queue.nearest(rows, z)[0]].sum(),
  ):
    np.testing.assert_array_equal(jax.grad(function)(z), 0)


def test_every_replica_holds_the_same_queue():
  rows = np.arange(32.0, dtype=np.float32).reshape(16, 2)

  def local(pointer, rows):
    return queue.enqueue(
      jnp.zeros((48, 2)), pointer, gather.all_rows_replicated(rows, AXIS)
    )

  # P(): shard_map refuses what it cannot prove to be alike.
  after, pointer = jax.jit(
    jax.shard_map(
      local, mesh=make_mesh(), in_specs=(P(), P(AXIS)), out_specs=P()
    )
  )(jnp.asarray(32, jnp.int32), rows)
  np.testing.assert_array_equal(after[32:], rows)
  np.testing.assert_array_equal(after[:32], 0)
  assert pointer == 0
