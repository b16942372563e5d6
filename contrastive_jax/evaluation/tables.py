"""Embeddings as one file, .npz or .parquet, written without holding them."""

import importlib.util
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.evaluation.embed import SPLITS, Embedded

_ROWS = 4096  # in memory at a time
SUFFIXES = ('.npz', '.parquet')


def check(
  output: str | os.PathLike, suffixes: tuple[str, ...] = SUFFIXES
) -> pathlib.Path:
  """Returns the path of a file that can be written, before hours of work.

  Args:
    output: as a user gives it.
    suffixes: that it may have.

  Raises:
    Error: another suffix, no such folder, or what it takes is not installed.
  """
  path = pathlib.Path(output)
  if path.suffix not in suffixes:
    raise Error(f'--output={output} is no {" or ".join(suffixes)} file')
  if path.suffix == '.parquet' and not importlib.util.find_spec('pyarrow'):
    raise Error('a .parquet file takes pyarrow: pip install pyarrow, or .npz')
  if not path.parent.is_dir():
    raise Error(f'{path}: there is no folder {path.parent}')
  if path.is_dir() or not os.access(path.parent, os.W_OK):
    raise Error(f'{path} cannot be written')
  return path


def write(found: Embedded, output: pathlib.Path) -> None:
  """Writes the file, as a whole or not at all.

  In both forms a row is an image: its id within its split, the split, its path
  where there are files, its text if it is one or has one, its label where there
  are labels, and its vector. An
  .npz has arrays of these names in the plural, labels as numbers (-1: none) of
  `class_names`; a .parquet has labels by their names. `unreadable` and `about`
  (JSON) are arrays of the one, and metadata of the other.

  Args:
    found: of `embed.compute`.
    output: of `check`.
  """
  temporary = output.with_name(f'.{output.name}.tmp')
  try:
    if output.suffix == '.npz':
      _write_npz(found, temporary)
    else:
      _write_parquet(found, temporary)
    os.replace(temporary, output)
  finally:
    temporary.unlink(missing_ok=True)


def _about(found: Embedded) -> str:
  return json.dumps(found.about)


def _paths(found: Embedded) -> bool:
  return all(split.paths is not None for split in found.splits.values())


def _blocks(found: Embedded) -> Iterator[dict[str, Any]]:
  """Yields the columns of some rows at a time."""
  for start in range(0, len(found.vectors), _ROWS):
    rows = slice(start, start + _ROWS)
    which, ids = found.places(found.numbers[rows])
    columns: dict[str, Any] = {'ids': ids.astype(np.int32)}
    columns['splits'] = np.array(list(found.splits))[which]
    if _paths(found):
      columns['paths'] = found.names(found.numbers[rows])
    if found.has_texts():
      columns['texts'] = found.texts(found.numbers[rows])
    if found.class_names():
      columns['labels'] = found.labels[rows]
    yield columns | {'vectors': np.asarray(found.vectors[rows])}


def _write_npz(found: Embedded, path: pathlib.Path) -> None:
  n = len(found.vectors)
  longest = max(map(len, SPLITS))
  kinds: dict[str, tuple[Any, tuple[int, ...]]] = {
    'vectors': (np.dtype('<f4'), (n, found.vectors.shape[1])),
    'ids': (np.dtype('<i4'), (n,)),
    'splits': (np.dtype(f'<U{longest}'), (n,)),
  }
  columns: dict[str, Callable[[np.ndarray], list[str]]] = {}
  if _paths(found):
    columns['paths'] = found.names
  if found.has_texts():
    columns['texts'] = found.texts
  for name, of_rows in columns.items():
    # Of the longest one, which takes a look at all of them.
    width = max(
      len(entry)
      for start in range(0, n, _ROWS)
      for entry in of_rows(found.numbers[start : start + _ROWS])
    )
    kinds[name] = (np.dtype(f'<U{width}'), (n,))
  if found.class_names():
    kinds['labels'] = (np.dtype('<i4'), (n,))
  whole = {
    'class_names': np.array(found.class_names(), str),
    'unreadable': np.array(found.names(found.unreadable), str),
    'about': np.array(_about(found)),
  }
  with zipfile.ZipFile(path, 'w') as archive:

    def add(name: str, fill: Callable[[Any], Any]) -> None:
      member = zipfile.ZipInfo(f'{name}.npy')
      if name in columns:  # most are shorter, or have their beginning in common
        member.compress_type = zipfile.ZIP_DEFLATED
      with archive.open(member, 'w', force_zip64=True) as file:
        fill(file)

    for name, (dtype, shape) in kinds.items():
      header = {
        'descr': np.lib.format.dtype_to_descr(dtype),
        'fortran_order': False,
        'shape': shape,
      }

      def fill(file, name=name, dtype=dtype, header=header):
        np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(found):
          file.write(np.ascontiguousarray(block[name], dtype).tobytes())

      add(name, fill)
    for name, array in whole.items():
      if array.size or name == 'unreadable':
        add(name, lambda file, a=array: np.lib.format.write_array(file, a))


def _write_parquet(found: Embedded, path: pathlib.Path) -> None:
  import pyarrow as pa
  import pyarrow.parquet

  dim = found.vectors.shape[1]
  names = found.class_names()
  fields = [('id', pa.int32()), ('split', pa.string())]
  if _paths(found):
    fields.append(('path', pa.string()))
  if found.has_texts():
    fields.append(('text', pa.string()))
  if names:
    fields.append(('label', pa.string()))
  fields.append(('vector', pa.list_(pa.float32(), dim)))
  metadata = {
    'about': _about(found),
    'class_names': json.dumps(names),
    'unreadable': json.dumps(found.names(found.unreadable)),
  }
  schema = pa.schema(fields, metadata)
  with pyarrow.parquet.ParquetWriter(path, schema) as writer:
    for block in _blocks(found):
      columns = {
        'id': block['ids'],
        'split': block['splits'],
        'path': block.get('paths'),
        'text': block.get('texts'),
        'label': [
          names[i] if i >= 0 else None for i in block.get('labels', ())
        ],
        'vector': pa.FixedSizeListArray.from_arrays(
          pa.array(block['vectors'].ravel()), dim
        ),
      }
      rows = {name: columns[name] for name, _ in fields}
      writer.write_table(pa.table(rows, schema))
