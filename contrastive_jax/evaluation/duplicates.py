"""Groups of images that are nearly the same, by their vectors and their files.

Two images are joined where the cosine of their vectors is at least a threshold,
and a group is all that is joined by a chain of such pairs. Files with the same
bytes, and links to a file, belong to its group whatever the vectors say.
"""

import collections
import csv
import hashlib
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.csgraph
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.config import Error
from contrastive_jax.evaluation import features, knn
from contrastive_jax.evaluation.embed import Embedded

# Rows of a block; a block of similarities is its square: 64 MiB.
_BLOCK = 4096
# A vector's cosine with itself is 1 only but for rounding.
_ROUNDING = 1e-6


class Counts(NamedTuple):
  """What was found: groups, the images and the links in them, and copies."""

  groups: int
  images: int
  copies: int
  links: int


def check(threshold: float | None) -> None:
  """Refuses what is no cosine of near-duplicates.

  Args:
    threshold: None: no groups are asked for.

  Raises:
    Error: it is not in (0, 1].
  """
  if threshold is not None and not 0 < threshold <= 1:
    raise Error(f'--duplicates={threshold:g} is not in (0, 1]')


def components(
  vectors: np.ndarray, threshold: float, mesh: Mesh | None = None
) -> np.ndarray:
  """Joins all pairs of rows whose cosine is at least a threshold, exactly.

  Memory is that of a block of similarities, and of 4 bytes a row; the vectors
  may lie on the disk. Zero vectors are joined to nothing.

  Args:
    vectors: float [n, d]; not normalized.
    threshold: in (0, 1].
    mesh: whose devices (of this process) share the work; None: all.

  Returns:
    int32 [n]: of each row, the first row of its group.
  """
  devices = jax.local_devices() if mesh is None else mesh.local_devices
  mesh = Mesh(np.array(devices), ('data',))
  split, copied = NamedSharding(mesh, P('data')), NamedSharding(mesh, P())
  n = len(vectors)
  size = min(_BLOCK, features.power_of_two(n))
  size = -(-size // len(devices)) * len(devices)
  first = np.arange(n, dtype=np.int32)
  for start in range(0, n, size):
    one = knn.unit(jax.device_put(_rows(vectors, start, size), split))
    for other in range(start, n, size):
      two = knn.unit(jax.device_put(_rows(vectors, other, size), copied))
      joined, some = _joined(one, two, threshold - _ROUNDING, start == other)
      if some:
        pairs = np.nonzero(np.asarray(joined))
        join(first, start + pairs[0], other + pairs[1])
  return _roots(first, np.arange(n))


@jax.jit
def _joined(one, two, threshold, same):
  """Which pairs are joined, each once, and whether any is."""
  # Full float32: TPUs and GPUs would round the products to fewer bits.
  found = jnp.matmul(one, two.T, precision=jax.lax.Precision.HIGHEST)
  found = (found >= threshold) & (jnp.any(one, 1)[:, None] & jnp.any(two, 1))
  found &= ~same | (jnp.arange(len(one))[:, None] < jnp.arange(len(two)))
  return found, found.any()


def join(first: np.ndarray, one: np.ndarray, two: np.ndarray) -> None:
  """Joins the groups of pairs of rows, in place.

  Args:
    first: int [n], of each row an earlier one of its group, or itself.
    one: rows.
    two: as many.
  """
  one, two = _roots(first, one), _roots(first, two)
  apart = one != two
  if not apart.any():
    return
  pair = np.stack([one[apart], two[apart]])
  nodes, place = np.unique(pair, return_inverse=True)
  edges = scipy.sparse.coo_array(
    (np.ones(pair.shape[1], bool), place.reshape(2, -1)),
    shape=(len(nodes), len(nodes)),
  )
  _, group = scipy.sparse.csgraph.connected_components(edges, directed=False)
  # Nodes are sorted: the first of a group is the earliest row.
  _, earliest = np.unique(group, return_index=True)
  first[nodes] = nodes[earliest[group]]


def _roots(first: np.ndarray, rows: np.ndarray) -> np.ndarray:
  while not np.array_equal(above := first[rows], rows):
    rows = above
  return rows


def _rows(vectors: np.ndarray, start: int, size: int) -> np.ndarray:
  piece = np.asarray(vectors[start : start + size], np.float32)
  return np.pad(piece, [(0, size - len(piece)), (0, 0)])


def copies(paths: list[str]) -> dict[int, int]:
  """Returns which files have the bytes of an earlier one: row -> that row.

  Args:
    paths: one a row. Files of a size that no other has are not read.
  """
  sizes = collections.defaultdict(list)
  for row, path in enumerate(paths):
    try:
      sizes[os.stat(path).st_size].append(row)
    except OSError:
      continue  # it has gone since
  found, known = {}, {}
  for rows in sizes.values():
    for row in rows if len(rows) > 1 else ():
      with open(paths[row], 'rb') as file:
        digest = hashlib.file_digest(file, 'sha256').digest()
      earlier = known.setdefault(digest, row)
      if earlier != row:
        found[row] = earlier
  return dict(sorted(found.items()))


def links(root: str, paths: list[str]) -> dict[str, int]:
  """Returns the links below a folder to some files: path -> row of the file.

  Args:
    root: the folder; links to folders are not entered.
    paths: one a row.
  """
  rows = {os.path.realpath(path): row for row, path in enumerate(paths)}
  own = {os.path.abspath(path) for path in paths}
  found = {}
  for folder, _, names in os.walk(root):
    for name in names:
      path = os.path.join(folder, name)
      if os.path.islink(path) and os.path.abspath(path) not in own:
        row = rows.get(os.path.realpath(path))
        if row is not None:
          found[path] = row
  return dict(sorted(found.items()))


def write(
  found: Embedded,
  threshold: float,
  output: pathlib.Path,
  root: str | None,
  *,
  files: bool = True,
) -> Counts:
  """Writes the groups of two or more: group, path, similarity, why.

  Args:
    found: of `embed.compute`.
    threshold: of the cosine.
    output: a .csv file. `similarity` is the cosine with the first image of the
      group, which in a chain may be below the threshold; `why` is 'near', or
      'copy of PATH', or 'link to PATH'.
    root: of the folder that the images are from, to look for links in.
    files: whether they are of the files, and not of the texts beside these.

  Returns:
    How many there are.
  """
  first = components(found.vectors, threshold)
  same: dict[int, int] = {}
  linked: dict[str, int] = {}
  splits = list(found.splits.values())
  if files and all(split.paths is not None for split in splits):
    which, ids = found.places(found.numbers)
    paths = [
      str((splits[s].paths or ())[i]) for s, i in zip(which, ids, strict=True)
    ]
    # Several rows of one image are no copies of it.
    same = {a: b for a, b in copies(paths).items() if paths[a] != paths[b]}
    join(
      first,
      np.fromiter(same, np.int32, len(same)),
      np.fromiter(same.values(), np.int32, len(same)),
    )
    first = _roots(first, np.arange(len(first)))
    linked = links(root, paths) if root else {}
  sizes = np.bincount(first, minlength=len(first))
  for row in linked.values():
    sizes[first[row]] += 1
  starts = np.flatnonzero(sizes > 1)
  members = np.flatnonzero(sizes[first] > 1)
  by_group = members[np.argsort(first[members], kind='stable')]
  links_of = collections.defaultdict(list)
  for path, row in linked.items():
    links_of[first[row]].append((path, row))
  temporary = output.with_name(f'.{output.name}.tmp')

  def name(row: int) -> str:
    return found.names(found.numbers[row : row + 1])[0]

  with temporary.open('w', encoding='utf-8', newline='') as file:
    table = csv.writer(file, lineterminator='\n')
    table.writerow(('group', 'path', 'similarity', 'why'))
    place = 0
    for number, start in enumerate(starts):
      head = features.unit(found.vectors[start])
      while place < len(by_group) and first[by_group[place]] == start:
        row = int(by_group[place])
        similarity = float(features.unit(found.vectors[row]) @ head)
        why = f'copy of {name(same[row])}' if row in same else 'near'
        why = '' if row == start else why
        table.writerow((number, name(row), f'{similarity:.4f}', why))
        place += 1
      for path, row in links_of[start]:
        shown = os.fsencode(path).decode('utf-8', 'backslashreplace')
        table.writerow((number, shown, '', f'link to {name(row)}'))
  temporary.replace(output)
  return Counts(len(starts), len(members), len(same), len(linked))
