"""Weighted nearest neighbors: what an encoder is worth as it is.

Nothing is fitted; k and the temperature are all there is to choose, which is
why they stand in the metric's name.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.config import Error
from contrastive_jax.evaluation import features as features_lib

# Rows of the bank that are on a device at a time.
_BLOCK = 16_384


def knn_name(k: int, temperature: float) -> str:
  """Returns the metric's name, such as `knn20_cos_t0.07`."""
  return f'knn{k}_cos_t{temperature:g}'


def knn_predict(
  bank_features: np.ndarray,
  bank_labels: np.ndarray,
  query_features: np.ndarray,
  *,
  num_classes: int,
  k: int = 20,
  temperature: float = 0.07,
  chunk: int = 1024,
  mesh: Mesh | None = None,
) -> np.ndarray:
  """Predicts the class of each query by a weighted vote of its neighbors.

  The k rows of the bank with the largest cosine similarity s vote for their
  class with weight exp(s / temperature). Zero vectors have similarity 0 to
  everything. Of equal votes the lower class wins. `nearest` tells the memory
  that this takes and how equal similarities are ordered.

  Args:
    bank_features: [N, D], any float dtype; not normalized.
    bank_labels: [N], integers in [0, num_classes).
    query_features: [M, D].
    num_classes: number of classes.
    k: number of neighbors; at most N.
    temperature: of the weights; lower trusts the nearest more.
    chunk: queries that a device compares at a time; changes no result.
    mesh: whose devices (of this process) share the queries; None: all.

  Returns:
    Predicted classes, int32 [M].

  Raises:
    ValueError: k beyond the bank, or features and labels that do not fit.

  Reference: Wu et al., Unsupervised Feature Learning via Non-Parametric
    Instance Discrimination (1805.01978), section 3.4. k and temperature are
    those of DINO (2104.14294), section 4.1.
  """
  features_lib.check(bank_features, bank_labels, num_classes, 'bank')
  if not temperature > 0:
    raise Error(f'temperature {temperature} is not above 0')
  similarity, index = nearest(
    bank_features, query_features, k=k, chunk=chunk, mesh=mesh
  )
  bank_labels = np.asarray(bank_labels)
  # In chunks, for the votes are [chunk, num_classes].
  predicted = [
    vote(
      similarity[i : i + chunk],
      bank_labels[index[i : i + chunk]],
      num_classes,
      temperature,
    )
    for i in range(0, len(index), chunk)
  ]
  return np.concatenate(predicted).astype(np.int32)


def knn_accuracy(
  bank_features: np.ndarray,
  bank_labels: np.ndarray,
  query_features: np.ndarray,
  query_labels: np.ndarray,
  *,
  num_classes: int,
  k: int = 20,
  temperature: float = 0.07,
  chunk: int = 1024,
  mesh: Mesh | None = None,
) -> float:
  """Returns the share of queries that `knn_predict` classifies rightly.

  Args:
    bank_features: [N, D].
    bank_labels: [N].
    query_features: [M, D]; not rows of the bank, which would find themselves.
    query_labels: [M].
    num_classes: as for `knn_predict`, and so are the others.
    k: number of neighbors.
    temperature: of the weights.
    chunk: queries that a device compares at a time.
    mesh: whose devices share the queries.

  Returns:
    Accuracy in [0, 1].

  Raises:
    ValueError: as `knn_predict`.
  """
  features_lib.check(query_features, query_labels, num_classes, 'query')
  predicted = knn_predict(
    bank_features,
    bank_labels,
    query_features,
    num_classes=num_classes,
    k=k,
    temperature=temperature,
    chunk=chunk,
    mesh=mesh,
  )
  return float(np.mean(predicted == query_labels))


def nearest(
  bank_features: np.ndarray,
  query_features: np.ndarray,
  *,
  k: int,
  chunk: int = 1024,
  mesh: Mesh | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the k rows of the bank with the largest cosine similarity, exactly.

  The bank stays on the host, in its own dtype, and passes through the devices
  once, in blocks of B = 16,384 rows. A device holds about 4 D (M / devices +
  2 B) + 4 chunk B bytes: for ImageNet (M = 50,000, D = 2048) on one device 0.41
  + 0.27 + 0.07 GB, however large the bank. In several processes, all of which
  have to call this, each one searches for its share of the queries.

  Args:
    bank_features: [N, D], any float dtype; not normalized.
    query_features: [M, D].
    k: number of neighbors; at most N.
    chunk: queries that a device compares at a time; changes no result.
    mesh: whose devices (of this process) share the queries; None: all.

  Returns:
    Similarities float32 [M, k], largest first, and rows of the bank int32
    [M, k]; of equal ones, the row that comes first in the bank.

  Raises:
    ValueError: k beyond the bank, or features that do not fit.
  """
  total = len(bank_features)
  if not 1 <= k <= total:
    raise Error(f'k = {k} neighbors of a bank of {total} features')
  if query_features.ndim != 2 or not len(query_features):
    raise Error(
      f'query features have shape {query_features.shape}, not [M, D] with M > 0'
    )
  if query_features.shape[1] != bank_features.shape[1]:
    raise Error(
      f'query features have {query_features.shape[1]} dimensions, those of '
      f'the bank {bank_features.shape[1]}'
    )
  features_lib.check_finite(query_features, 'query')
  processes = jax.process_count()
  if processes == 1:
    return _nearest(bank_features, query_features, k, chunk, mesh)
  share = -(-len(query_features) // processes)
  mine = _rows(query_features, share * jax.process_index(), share)
  found = _nearest(bank_features, mine, k, chunk, mesh)
  similarity, index = (
    multihost_utils.process_allgather(x, tiled=True)[: len(query_features)]
    for x in found
  )
  return similarity, index


def _nearest(bank_features, query_features, k, chunk, mesh):
  """Does the search of `nearest` on the devices of this process."""
  total = len(bank_features)
  devices = jax.local_devices() if mesh is None else mesh.local_devices
  mesh = Mesh(np.array(devices), ('data',))
  split, copied = NamedSharding(mesh, P('data')), NamedSharding(mesh, P())

  # Powers of two: sizes that vary do not each compile a function. Rows a device
  # are the same for any number of devices, and so is the rounding.
  chunk = min(chunk, features_lib.power_of_two(len(query_features))) * len(
    devices
  )
  block = min(_BLOCK, features_lib.power_of_two(total))
  queries = [
    unit(jax.device_put(_rows(query_features, start, chunk), split))
    for start in range(0, len(query_features), chunk)
  ]
  nothing = (
    jax.device_put(np.full((chunk, k), -np.inf, np.float32), split),
    jax.device_put(np.zeros((chunk, k), np.int32), split),
  )
  found = [nothing] * len(queries)
  for start in range(0, total, block):
    rows = unit(jax.device_put(_rows(bank_features, start, block), copied))
    valid = min(block, total - start)
    found = [
      _search(query, rows, start, valid, *best, mesh=mesh)
      for query, best in zip(queries, found, strict=True)
    ]
    # The host runs no further ahead, or all blocks would wait on the devices.
    jax.block_until_ready(found)
  similarity, index = (
    np.concatenate([np.asarray(part) for part in parts])[: len(query_features)]
    for parts in zip(*found, strict=True)
  )
  return similarity, index


@jax.jit
def unit(x):
  """Returns rows of length 1, float32; zero rows stay zero.

  Args:
    x: [n, d].
  """
  x = x.astype(jnp.float32)
  # Dividing by the largest entry first keeps the squares from overflowing.
  x = x / jnp.maximum(jnp.max(jnp.abs(x), axis=1, keepdims=True), 1e-30)
  norm = jnp.linalg.norm(x, axis=1, keepdims=True)
  return x / jnp.maximum(norm, 1e-30)


@functools.partial(jax.jit, static_argnames='mesh')
def _search(queries, rows, start, valid, similarity, index, *, mesh):
  """Merges the nearest of one block into the nearest so far (both sorted)."""

  def merge(queries, rows, start, valid, similarity, index):
    k = similarity.shape[1]
    # Full float32: TPUs and GPUs would round the products to fewer bits.
    found = jnp.matmul(queries, rows.T, precision=jax.lax.Precision.HIGHEST)
    found = jnp.where(jnp.arange(len(rows)) < valid, found, -jnp.inf)
    found, place = jax.lax.top_k(found, min(k, len(rows)))
    # Earlier rows stand first, and top_k keeps the first of equals.
    similarity = jnp.concatenate([similarity, found], axis=1)
    index = jnp.concatenate([index, start + place], axis=1)
    similarity, place = jax.lax.top_k(similarity, k)
    return similarity, jnp.take_along_axis(index, place, axis=1)

  # Mapped by hand, for the partitioner may gather the operand of a top_k.
  split = P('data')
  return jax.shard_map(
    merge,
    mesh=mesh,
    in_specs=(split, P(), P(), P(), split, split),
    out_specs=split,
  )(queries, rows, start, valid, similarity, index)


def vote(
  similarity: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  temperature: float,
) -> np.ndarray:
  """Returns the class with the largest weight exp(similarity / temperature).

  Args:
    similarity: [M, k], largest first.
    labels: [M, k], of the same neighbors.
    num_classes: number of classes.
    temperature: of the weights.

  Returns:
    Classes, int64 [M]; of equal votes the lower one.
  """
  # Relative to the nearest: exp does not overflow at low temperature. Summed on
  # the host in float64, where the order of the terms is always the same.
  weights = np.exp((similarity - similarity[:, :1]) / np.float64(temperature))
  place = np.arange(len(labels))[:, None] * num_classes + labels
  votes = np.bincount(
    place.ravel(), weights.ravel(), minlength=len(labels) * num_classes
  )
  return votes.reshape(len(labels), num_classes).argmax(axis=1)


def _rows(array: np.ndarray, start: int, size: int) -> np.ndarray:
  """Returns array[start : start + size], with rows of zeros up to size."""
  piece = np.asarray(array[start : start + size])
  return np.pad(piece, [(0, size - len(piece)), (0, 0)])
