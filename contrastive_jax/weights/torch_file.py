"""Files of torch.save, read without torch, and without running what is in them.

Such a file is a pickle, and a pickle is a program: it may call whatever it
names. Here it gets nothing but tensors, their types and plain containers;
whatever else it names is refused before it is called. Both formats are read:
the zip of torch 1.6 and later, and the one before (MoCo's published files).

Source: torch/serialization.py, torch/_utils.py (names and layout).
"""

import collections
import functools
import io
import math
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from contrastive_jax.config import Error

_MAGIC = 0x1950A86A20F9469CFC6C  # of the older format
_DTYPES = {
  'FloatStorage': np.dtype('<f4'),
  'DoubleStorage': np.dtype('<f8'),
  'HalfStorage': np.dtype('<f2'),
  'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
  'ShortStorage': np.dtype('<i2'),
  'CharStorage': np.dtype('i1'),
  'ByteStorage': np.dtype('u1'),
  'BoolStorage': np.dtype('?'),
}


class _Storage(NamedTuple):
  """What a tensor is a view of; its bytes are read when it is asked for."""

  key: str
  dtype: np.dtype
  count: int


class _Tensor(NamedTuple):
  storage: _Storage
  offset: int  # in values
  shape: tuple[int, ...]
  strides: tuple[int, ...]  # in values


def read(path: pathlib.Path) -> Any:
  """Returns what is in a file of torch.save.

  Args:
    path: .pth, .pt, .ckpt, .pth.tar or the like.

  Returns:
    Dicts, lists, numbers and texts as they were stored, NumPy arrays in place
    of tensors (bfloat16 as ml_dtypes has it).

  Raises:
    Error: it is cut off, or something else, or names what is no tensor.
  """
  try:
    if zipfile.is_zipfile(path):
      return _read_zip(path)
    with path.open('rb') as file:
      return _read_older(file)
  except Error as error:
    raise Error(f'{path} {error}') from None
  except OSError as error:
    raise Error(f'{path}: {error.strerror or error}') from error
  except Exception as error:
    # Whatever a damaged pickle makes of itself.
    raise Error(
      f'{path} is no whole file of torch.save ({type(error).__name__}: '
      f'{error}): copy it again, or convert it to .safetensors'
    ) from error


class _Unpickler(pickle.Unpickler):
  """Finds nothing but what tensors are made of."""

  def __init__(self, file: BinaryIO | io.BytesIO):
    super().__init__(file, encoding='utf-8')
    # Made anew for each file: a pickle may set attributes of what it finds.
    self._known: dict[tuple[str, str], Any] = {
      ('collections', 'OrderedDict'): collections.OrderedDict,
      ('torch._utils', '_rebuild_tensor'): lambda *of: _tensor(*of),
      ('torch._utils', '_rebuild_tensor_v2'): lambda *of: _tensor(*of),
      ('torch._utils', '_rebuild_parameter'): lambda data, *_: data,
      ('torch', 'Size'): tuple,
      # The arguments of a script; DINO's whole checkpoints have them.
      ('argparse', 'Namespace'): type('Namespace', (), {}),
    }

  def find_class(self, module: str, name: str) -> Any:
    if module in ('torch', 'torch.storage') and name in _DTYPES:
      return name
    if (module, name) not in self._known:
      raise Error(
        f'holds more than tensors (it names {module}.{name}) and is not read, '
        'as such a file can run anything: if you trust it, load it in torch '
        'and save the state dict alone'
      )
    return self._known[module, name]

  def persistent_load(self, pid: Any) -> _Storage:
    kind, name, key, _, count = pid[:5]
    if kind != 'storage' or count < 0 or len(pid) > 5 and pid[5] is not None:
      raise ValueError('a storage that is a part of another')
    return _Storage(str(key), _DTYPES[name], int(count))


def _tensor(storage, offset, shape, strides, *_) -> _Tensor:
  """Takes the arguments of torch's rebuild functions; others are autograd's."""
  shape, strides = tuple(map(int, shape)), tuple(map(int, strides))
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  size = math.prod(shape)
  # A view that leaves its storage would read memory that is not the file's.
  if min((offset, *shape, *strides)) < 0 or (
    size and (last >= storage.count or size > storage.count)
  ):
    raise ValueError('a tensor that is larger than its storage')
  return _Tensor(storage, int(offset), shape, strides)


def _read_zip(path: pathlib.Path) -> Any:
  with zipfile.ZipFile(path) as archive:
    names = [n for n in archive.namelist() if n.endswith('/data.pkl')]
    if len(names) != 1:
      raise Error('is a zip, but none of torch.save: no data.pkl in it')
    root = names[0].removesuffix('data.pkl')
    if any(i.compress_type != zipfile.ZIP_STORED for i in archive.infolist()):
      raise Error('is compressed, which torch.save does not do')
    if f'{root}byteorder' in archive.namelist():
      if archive.read(f'{root}byteorder') != b'little':
        raise Error('was written on a big-endian machine')
    tree = _Unpickler(io.BytesIO(archive.read(names[0]))).load()

    def values(storage):
      data = archive.read(f'{root}data/{storage.key}')
      return np.frombuffer(data, storage.dtype, storage.count)

    return _mapped(tree, _array_of(values))


def _read_older(file: BinaryIO) -> Any:
  for expected in (_MAGIC, 1001):
    if _Unpickler(file).load() != expected:
      raise ValueError('it does not begin as one')
  _Unpickler(file).load()  # sizes of C's types where it was written
  tree = _Unpickler(file).load()
  storages: dict[str, _Storage] = {}
  _mapped(tree, lambda t: storages.setdefault(t.storage.key, t.storage))
  found = {}
  for key in map(str, _Unpickler(file).load()):
    storage = storages[key]
    if int.from_bytes(file.read(8), 'little') != storage.count:
      raise ValueError(f'storage {key} is not as long as its tensors say')
    data = file.read(storage.count * storage.dtype.itemsize)
    found[key] = np.frombuffer(data, storage.dtype, storage.count)
  return _mapped(tree, _array_of(lambda storage: found[storage.key]))


def _array_of(
  values_of: Callable[[_Storage], np.ndarray],
) -> Callable[[_Tensor], np.ndarray]:
  """Returns what makes an array of a tensor; each storage is read once."""
  values_of = functools.cache(values_of)

  def array(tensor: _Tensor) -> np.ndarray:
    if not math.prod(tensor.shape):
      return np.zeros(tensor.shape, tensor.storage.dtype)
    values = values_of(tensor.storage)[tensor.offset :]
    strides = [s * values.itemsize for s in tensor.strides]
    view = np.lib.stride_tricks.as_strided(values, tensor.shape, strides)
    return np.array(view)

  return array


def _mapped(tree: Any, array: Callable[[_Tensor], Any]) -> Any:
  """The same tree with something else in place of its tensors."""
  done: dict[int, Any] = {}  # what is there many times is made once

  def mapped(node: Any) -> Any:
    if id(node) not in done:
      if isinstance(node, _Tensor):
        done[id(node)] = array(node)
      elif isinstance(node, dict):
        done[id(node)] = {k: mapped(v) for k, v in node.items()}
      elif isinstance(node, list | tuple):
        done[id(node)] = [mapped(v) for v in node]
      else:
        return node
    return done[id(node)]

  return mapped(tree)
