"""Features of whole data sets, computed once and then given to every probe."""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.config import Error

Batch = dict[str, np.ndarray]
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]

# Batches that are under way on the devices while the host loads the next.
_IN_FLIGHT = 2
# Rows of each process in one gather: bounds what lies on a device at once.
_GATHER_ROWS = 16_384

# One compiled function for all calls: the parameters are arguments of it.
call = jax.jit(lambda features_fn, inputs: features_fn(inputs))


def extract(
  features_fn: Callable[[jax.Array], jax.Array],
  batches: Iterable[Batch],
  *,
  mesh: Mesh | None = None,
  may_be_none: bool = False,
) -> Rows:
  """Computes the features of every image once, whatever the device count.

  Args:
    features_fn: maps images [b, S, S, C] (as the batches have them) to
      features [b, D]. Pass `jax.tree_util.Partial(fn, params, ...)`: the
      parameters are then arguments of a function that is compiled once for all
      checkpoints. A closure works too, but is compiled anew for each one, and
      cannot hold arrays that span several processes.
    batches: dicts of `input` [b, S, S, C], `id` [b], `label` [b] and `mask`
      [b]; rows whose mask is False are padding and are dropped. In several
      processes each one yields its own rows, any number of them.
    mesh: devices over which a batch is split; b must be divisible by their
      number. Of a mesh over several processes, each uses its own devices.
      None: all devices of this process.
    may_be_none: whether batches of padding alone are no error.

  Returns:
    Features float32 [N, D], labels int32 [N] and ids int32 [N] in the order of
    the ids, the same in every process.

  Raises:
    ValueError: a batch that does not divide by the devices, or no rows.
  """
  devices = mesh.local_devices if mesh is not None else jax.local_devices()
  local = Mesh(np.array(devices), ('data',))
  if not isinstance(features_fn, jax.tree_util.Partial):
    features_fn = jax.tree_util.Partial(features_fn)
  features_fn = jax.device_put(
    jax.tree.map(addressable, features_fn), NamedSharding(local, P())
  )

  def computed() -> Iterator[tuple[jax.Array, Batch]]:
    for batch in batches:
      rows = len(batch['mask'])
      if rows % len(devices):
        raise Error(
          f'evaluation batch of {rows} images is not divisible '
          f'by {len(devices)} devices'
        )
      images = jax.device_put(batch['input'], NamedSharding(local, P('data')))
      yield call(features_fn, images), batch

  return _collect(computed(), may_be_none)


def flattened(batches: Iterable[Batch]) -> Rows:
  """Returns flattened inputs as features: what every encoder has to beat.

  Args:
    batches: as for `extract`; images are uint8, or float32 in [0, 1].

  Returns:
    Flattened pixels in [0, 1], float32 [N, S*S*C]; labels and ids as `extract`.

  Raises:
    ValueError: there are no rows.
  """

  def pixels(images):
    images = np.reshape(images, (len(images), -1))
    return images / np.float32(_white(images))

  return _collect((pixels(b['input']), b) for b in batches)


def assert_frozen(
  features_fn: Callable[[jax.Array], jax.Array], images: Any
) -> None:
  """Checks that an image's features do not depend on its batch.

  They do where batch norm runs in training mode: a leak that moves statistics
  and flatters the result.

  Args:
    features_fn: as for `extract`, a `jax.tree_util.Partial`.
    images: what `features_fn` takes of b >= 2 examples.

  Raises:
    RuntimeError: they do.
  """
  features_fn = jax.tree.map(addressable, features_fn)
  half = len(jax.tree.leaves(images)[0]) // 2
  others = jax.tree.map(_other_half, images)
  alone, elsewhere = (
    np.asarray(call(features_fn, x))[:half] for x in (images, others)
  )
  difference = np.abs(alone - elsewhere).max()
  if difference > 1e-3 * np.abs(alone).max():
    raise RuntimeError(
      f'features of the same images differ by {difference:.3g} between two '
      'batches: the encoder is evaluated in training mode'
    )


def _other_half(x: np.ndarray) -> np.ndarray:
  """The same first rows, beside others: negatives, or the first again."""
  half = len(x) // 2
  rest = x[:half]
  if x.ndim == 4:
    rest = _white(x) - x[half:]
  return np.concatenate([x[:half], np.resize(rest, x[half:].shape)])


def labeled(rows: Rows) -> Rows:
  """Returns the rows that have a label: what accuracies are measured of.

  Args:
    rows: of `extract`.
  """
  known = rows[1] >= 0
  # Whole arrays are not copied.
  if known.all():
    return rows
  features, labels, ids = rows
  return features[known], labels[known], ids[known]


def check(
  features: np.ndarray, labels: np.ndarray, num_classes: int, name: str
) -> None:
  """Refuses features and labels from which no accuracy can be measured.

  Args:
    features: [N, D].
    labels: [N], integers in [0, num_classes).
    num_classes: number of classes.
    name: of this part of the data, for the message.

  Raises:
    ValueError: one sentence that says what is wrong.
  """
  if features.ndim != 2 or not len(features):
    raise Error(
      f'{name} features have shape {features.shape}, not [N, D] with N > 0'
    )
  if len(labels) != len(features):
    raise Error(f'{name} has {len(features)} features but {len(labels)} labels')
  missing = int(np.sum(labels == -1))
  if missing:
    raise Error(f'{missing} of {len(labels)} {name} examples have no label')
  outside = (labels < 0) | (labels >= num_classes)
  if outside.any():
    raise Error(
      f'{name} label {labels[outside][0]} is not between 0 and '
      f'{num_classes - 1}'
    )
  check_finite(features, name)


def check_finite(features: np.ndarray, name: str) -> None:
  """Raises ValueError that counts the rows of features [N, D] with NaN, inf."""
  # In slices: isfinite of the whole would be a quarter of the features again.
  broken = sum(
    int(np.sum(~np.isfinite(features[i : i + _GATHER_ROWS]).all(axis=1)))
    for i in range(0, len(features), _GATHER_ROWS)
  )
  if broken:
    raise Error(
      f'{broken} of {len(features)} {name} features contain NaN or infinity'
    )


def unit(x: np.ndarray) -> np.ndarray:
  """Returns float32 vectors of length 1; of zeros they are zeros.

  Args:
    x: [..., d].
  """
  x = np.asarray(x, np.float32)
  norm = np.linalg.norm(x, axis=-1, keepdims=True)
  return x / np.maximum(norm, np.finfo(np.float32).tiny)


def power_of_two(n: int) -> int:
  """Returns the least power of two that is not below n.

  Sizes that are rounded up to it do not each compile a function.

  Args:
    n: at least 1.
  """
  return 1 << (n - 1).bit_length()


def _collect(
  computed: Iterable[tuple[Any, Batch]], may_be_none: bool = False
) -> Rows:
  """Fetches (features, batch) pairs, drops padding, gathers and sorts."""
  rows: list[Rows] = []
  pending: collections.deque[tuple[Any, Batch]] = collections.deque()

  def fetch() -> None:
    features, batch = pending.popleft()
    keep = np.asarray(batch['mask'], bool)
    features = np.asarray(features, np.float32)[keep]
    labels, ids = (
      np.asarray(batch[k], np.int32)[keep] for k in ('label', 'id')
    )
    rows.append((features, labels, ids))

  for item in computed:
    pending.append(item)
    if len(pending) > _IN_FLIGHT:
      fetch()
  while pending:
    fetch()
  if not rows:
    raise Error('there are no images to compute features of')
  features, labels, ids = (
    np.concatenate(part) for part in zip(*rows, strict=True)
  )
  if jax.process_count() > 1:
    features, labels, ids = _gather((features, labels, ids))
  if not len(ids) and not may_be_none:
    raise Error('there are no images to compute features of')
  order = np.argsort(ids, kind='stable')
  return features[order], labels[order], ids[order]


def _gather(local: Rows) -> Rows:
  """Concatenates the rows of all processes, slice by slice."""
  counts = multihost_utils.process_allgather(np.array([len(local[0])]))
  counts = np.ravel(counts)
  parts: list[list[np.ndarray]] = [[], [], []]
  for start in range(0, int(counts.max()), _GATHER_ROWS):
    # Every process must offer the same shape: rows it lacks are padding.
    size = min(_GATHER_ROWS, int(counts.max()) - start)
    present = np.arange(start, start + size) < counts[:, None]
    for array, out in zip(local, parts, strict=True):
      padded = np.zeros((size, *array.shape[1:]), array.dtype)
      piece = array[start : start + size]
      padded[: len(piece)] = piece
      out.append(multihost_utils.process_allgather(padded)[present])
  features, labels, ids = (np.concatenate(part) for part in parts)
  return features, labels, ids


def _white(images: np.ndarray) -> int:
  return 255 if images.dtype == np.uint8 else 1


def addressable(leaf: Any) -> Any:
  """Returns this process's copy of a replicated array of all processes.

  Args:
    leaf: an array, or anything else, which is returned as it is.
  """
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    return leaf.addressable_data(0)
  return leaf
