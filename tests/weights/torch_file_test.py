"""Files of torch.save, made here without torch, and what is no such file."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest

from contrastive_jax import config
from contrastive_jax.weights import torch_file


class Tensor:
  """Pickled as torch pickles a tensor of its storage."""

  def __init__(
    self, key, values, offset=0, shape=None, strides=None, kind=None
  ):
    self.key, self.values = key, values
    self.offset = offset
    self.shape = values.shape if shape is None else shape
    size = values.itemsize
    self.strides = strides or tuple(s // size for s in values.strides)
    self.kind = kind or {'f': 'FloatStorage', 'i': 'LongStorage'}.get(
      values.dtype.kind, 'BFloat16Storage'
    )


@pytest.fixture
def stand_in(monkeypatch):
  """Modules of the names that are written into the pickle."""
  torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')

  def rebuild(*arguments):
    raise AssertionError('only its name is pickled')

  rebuild.__module__, rebuild.__qualname__ = (
    'torch._utils',
    '_rebuild_tensor_v2',
  )
  utils._rebuild_tensor_v2 = rebuild
  torch._utils = utils
  for kind in ('FloatStorage', 'LongStorage', 'BFloat16Storage'):
    setattr(torch, kind, type(kind, (), {'__module__': 'torch'}))
  monkeypatch.setitem(sys.modules, 'torch', torch)
  monkeypatch.setitem(sys.modules, 'torch._utils', utils)
  return torch


def pickled(tree, torch, older=False) -> bytes:
  class Storage:
    def __init__(self, tensor):
      self.of = tensor

  class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
      if isinstance(thing, Storage):
        t = thing.of
        kind = getattr(torch, t.kind)
        more = (None,) if older else ()
        return ('storage', kind, t.key, 'cpu', t.values.size, *more)
      return None

    def reducer_override(self, thing):
      if isinstance(thing, Tensor):
        rest = (thing.offset, thing.shape, thing.strides)
        hooks = (False, collections.OrderedDict())
        arguments = (Storage(thing), *rest, *hooks)
        return torch._utils._rebuild_tensor_v2, arguments
      return NotImplemented

  data = io.BytesIO()
  Pickler(data, protocol=2).dump(tree)
  return data.getvalue()


def saved(path, tree, torch, tensors):
  """In the format since torch 1.6."""
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('model/data.pkl', pickled(tree, torch))
    archive.writestr('model/byteorder', 'little')
    for t in tensors:
      archive.writestr(f'model/data/{t.key}', t.values.tobytes())
  return path


def saved_older(path, tree, torch, tensors):
  with path.open('wb') as file:
    for head in (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True}):
      pickle.dump(head, file, protocol=2)
    file.write(pickled(tree, torch, older=True))
    pickle.dump([t.key for t in tensors], file, protocol=2)
    for t in tensors:
      file.write(struct.pack('<q', t.values.size) + t.values.tobytes())
  return path


@pytest.mark.parametrize('save', [saved, saved_older])
def test_arrays_come_back(tmp_path, stand_in, save):
  values = np.arange(12, dtype=np.float32)
  whole = Tensor('0', values, 0, (3, 4), (4, 1))
  transposed = Tensor('0', values, 0, (4, 3), (1, 4))
  part = Tensor('0', values, 5, (2,), (3,))
  half = Tensor('1', np.ones(3, ml_dtypes.bfloat16))
  scalar = Tensor('2', np.array(7), 0, (), ())
  empty = Tensor('2', np.array(7), 0, (0, 5), (5, 1))
  tree = {
    'state_dict': collections.OrderedDict(
      whole=whole, transposed=transposed, part=part, half=half
    ),
    'more': [scalar, empty, 'text', 3],
  }
  path = save(tmp_path / 'w.pth', tree, stand_in, [whole, half, scalar])
  read = torch_file.read(path)
  state, more = read['state_dict'], read['more']
  table = values.reshape(3, 4)
  np.testing.assert_array_equal(state['whole'], table)
  np.testing.assert_array_equal(state['transposed'], table.T)
  np.testing.assert_array_equal(state['part'], [5, 8])
  assert state['half'].dtype == ml_dtypes.bfloat16
  assert more[0] == 7 and more[1].shape == (0, 5) and more[2:] == ['text', 3]


@pytest.mark.parametrize(
  ('offset', 'shape', 'strides'),
  [
    (0, (13,), (1,)),
    (11, (2,), (1,)),
    (0, (2,), (12,)),
    (-1, (2,), (1,)),
    (0, (2,), (-1,)),
    (0, (10**12,), (0,)),
  ],
)
@pytest.mark.parametrize('save', [saved, saved_older])
def test_no_tensor_reaches_beyond_its_storage(
  tmp_path, stand_in, save, offset, shape, strides
):
  beyond = Tensor('0', np.arange(12.0, dtype='f4'), offset, shape, strides)
  path = save(tmp_path / 'w.pth', {'a': beyond}, stand_in, [beyond])
  with pytest.raises(config.Error, match='larger than its storage'):
    torch_file.read(path)


class _Calls:
  """A pickle that would call a function as it is loaded."""

  def __init__(self, function, *arguments):
    self.to_call = function, arguments

  def __reduce__(self):
    return self.to_call


@pytest.mark.parametrize(
  'thing',
  [
    _Calls(print, 'called'),
    _Calls(getattr, 'text', 'upper'),
    np.float64(1.5),
    np.arange(3),
    types.SimpleNamespace(a=1),
  ],
)
@pytest.mark.parametrize('save', [saved, saved_older])
def test_nothing_but_tensors_is_named(tmp_path, stand_in, save, thing, capsys):
  path = save(tmp_path / 'w.pth', {'a': thing}, stand_in, [])
  with pytest.raises(config.Error, match='holds more than tensors'):
    torch_file.read(path)
  assert 'called' not in capsys.readouterr().out


@pytest.mark.parametrize('save', [saved, saved_older])
def test_a_file_that_is_cut_off_is_said(tmp_path, stand_in, save):
  tensor = Tensor('0', np.arange(400, dtype=np.float32))
  data = save(tmp_path / 'w.pth', {'a': tensor}, stand_in, [tensor])
  whole = data.read_bytes()
  for share in (0.0, 0.05, 0.3, 0.6, 0.98):
    data.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(config.Error, match=r'w\.pth'):
      torch_file.read(data)


def test_other_files_are_said(tmp_path):
  path = tmp_path / 'w.pth'
  np.savez(path.with_suffix('.npz'), a=np.zeros(3))
  path.with_suffix('.npz').rename(path)
  with pytest.raises(config.Error, match='none of torch.save'):
    torch_file.read(path)
  path.write_text('weights')
  with pytest.raises(config.Error, match='no whole file of torch.save'):
    torch_file.read(path)
