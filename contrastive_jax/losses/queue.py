"""A queue of past embeddings: MoCo's negatives, NNCLR's support set.

An array [K, d] and a pointer to the row that is overwritten next. Both are the
same on every replica: what goes in is gathered by `gather.all_rows_replicated`.
"""

import jax
import jax.numpy as jnp

from contrastive_jax.losses.normalize import l2_normalize


def check_size(size: int, rows: int) -> None:
  """Refuses a queue that a step's rows do not fit into a whole number of times.

  Args:
    size: K, rows of the queue.
    rows: that a step adds.

  Raises:
    ValueError: K is not a multiple of the rows, or there are none.
  """
  if size < 1 or size % rows:
    raise ValueError(
      f'objective.queue_size is {size}, not a multiple of the {rows} rows that '
      'a step adds'
    )


def random_rows(rng: jax.Array, size: int, features: int) -> jax.Array:
  """Returns [size, features] float32: directions drawn evenly from the sphere.

  Reference: facebookresearch/moco, moco/builder.py, begins like this; until
  size / (rows a step) steps are done, some of the queue is of these.
  """
  return l2_normalize(jax.random.normal(rng, (size, features)))


def enqueue(
  queue: jax.Array, pointer: jax.Array, rows: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the queue with its oldest rows replaced, and the next pointer.

  Args:
    queue: [K, ...].
    pointer: int32 scalar, a multiple of n.
    rows: [n, ...], the global batch's in its order; K is a multiple of n.

  Returns:
    The queue with rows [pointer, pointer + n) replaced; (pointer + n) mod K.
  """
  size, n = len(queue), len(rows)
  check_size(size, n)
  rows = rows.astype(queue.dtype)
  queue = jax.lax.dynamic_update_slice_in_dim(queue, rows, pointer, axis=0)
  return queue, (pointer + n) % size


def nearest(
  queue: jax.Array, embeddings: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns each embedding's nearest row of the queue, without a gradient.

  Args:
    queue: [K, d], unit vectors.
    embeddings: [b, d], normalized here.

  Returns:
    int32 [b], the row's number: the first one where several are as near; and
    float32 [b], its cosine.

  Reference:
    Dwibedi et al. 2021 (NNCLR, arXiv 2104.14548), equation 3: the nearest by
    distance, which on the sphere is the one of the largest product.
  """
  u = l2_normalize(jax.lax.stop_gradient(embeddings))
  similarity = jnp.matmul(
    u, jax.lax.stop_gradient(queue).T, precision=jax.lax.Precision.HIGHEST
  )
  return jnp.argmax(similarity, axis=-1), jnp.max(similarity, axis=-1)
