"""Files of weights: their arrays, and which of these are an encoder."""

import collections
import pathlib
import re
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from contrastive_jax.config import Error, MissingError
from contrastive_jax.weights import torch_file
from contrastive_jax.weights.keymap import Arrays

# A tensor that every encoder of a family has, whatever is written before it.
_MARKS = {
  'resnet': 'layer1.0.conv1.weight',
  'vit': 'blocks.0.attn.qkv.weight',
  'convnext': 'stages.0.blocks.0.conv_dw.weight',
  'torchvision convnext': 'features.1.0.block.0.weight',
  'bert': 'embeddings.word_embeddings.weight',
  'ours': 'encoder/',
}
# Of a checkpoint with several networks: what of it is taken, the first first.
# DINO and iBOT: the teacher; I-JEPA: the target; MoCo, SimSiam, Barlow Twins.
_CONTAINERS = (
  'teacher',
  'target_encoder',
  'state_dict',
  'model_state_dict',
  'model',
  'encoder',
)
# Networks that follow another one of the same file.
_FOLLOWERS = ('encoder_k', 'momentum', 'target', 'teacher', 'ema')


class Found(NamedTuple):
  """The encoder in a file.

  Attributes:
    family: 'resnet', 'vit', 'convnext', 'torchvision convnext', 'bert' or
      'ours'.
    arrays: by name, without what is written before each.
    where: how it was found in the file, for a reader; or empty.
    left: names of what else is in the file.
  """

  family: str
  arrays: Arrays
  where: str
  left: list[str]


def read(path: str | pathlib.Path) -> Any:
  """Returns what a file holds, without running anything in it.

  Args:
    path: .safetensors, .npz, or a file of torch.save whatever its name.

  Returns:
    Arrays by name; of torch.save perhaps nested.

  Raises:
    Error: no such file, a damaged one, or one that is something else.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise MissingError(f'there is no file of weights {path}')
  if path.suffix == '.safetensors':
    try:
      return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as e:
      raise Error(f'{path} is no whole safetensors file ({e})') from e
  if path.suffix == '.npz':
    try:
      with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as e:
      raise Error(f'{path} is no whole npz file of arrays ({e})') from e
  return torch_file.read(path)


def encoder_in(tree: Any, path: str | pathlib.Path) -> Found:
  """Returns the encoder in what `read` has returned.

  Args:
    tree: arrays by name, perhaps nested.
    path: of the file, for what is said.

  Raises:
    Error: there is none of a family that is known.
  """
  containers, beside = [], []
  while True:
    arrays = _renamed(_arrays(tree)) if isinstance(tree, Mapping) else {}
    if found := _marked(arrays):
      break
    # An array may lie beside the network: the best accuracy, say.
    names = tree if isinstance(tree, Mapping) else ()
    inner = [k for k in _CONTAINERS if k in names and _is_tree(tree[k])]
    if not inner:
      seen = ', '.join([str(name) for name in names][:5]) or 'nothing'
      raise Error(
        f'{path} holds no ResNet, ViT, ConvNeXt or BERT that is known here: '
        f'there is {seen} ...'
      )
    containers.append(inner[0])
    beside += [str(k) for k in names if k != inner[0] and _is_tree(tree[k])]
    tree = tree[inner[0]]
  family = found[0][0]
  if family == 'ours':
    prefix = 'encoder/'
  else:
    prefix = min(
      (p for f, p in found if f == family),
      key=lambda p: any(word in p for word in _FOLLOWERS),
    )
  mine = {
    name.removeprefix(prefix): array
    for name, array in arrays.items()
    if name.startswith(prefix)
  }
  where = ' of '.join(filter(None, [prefix.strip('./'), *containers[::-1]]))
  left = [name for name in arrays if not name.startswith(prefix)]
  left += [f'{name}.' for name in beside]
  return Found(family, mine, where, left)


def _marked(arrays: Arrays) -> list[tuple[str, str]]:
  """Returns the families that are there, and what is before their names."""
  return [
    (family, name.removesuffix(mark))
    for family, mark in _MARKS.items()
    for name in arrays
    if (name.startswith(mark) if family == 'ours' else name.endswith(mark))
  ]


def _is_tree(value: Any) -> bool:
  return isinstance(value, Mapping) and bool(value)


def shortened(names: Iterable[str], most: int = 5) -> str:
  """Returns names as a reader wants them: how many, and of what kinds."""
  names = list(names)
  if len(names) > most:
    # 'module.encoder_k. (122)' in place of all that begins so.
    kinds = collections.Counter(
      match[0] if (match := re.match(r'([^.]+\.){1,2}', name)) else name
      for name in names
    )
    shown = [f'{k} ({n})' if n > 1 else k for k, n in kinds.items()]
  else:
    shown = names
  more = ', ...' if len(shown) > most else ''
  return f'{len(names)}: {", ".join(shown[:most])}{more}'


def _renamed(arrays: Arrays) -> Arrays:
  """Names that are spelled in several ways, as the rules have them."""
  # DINOv2 trained in chunks: blocks.CHUNK.NUMBER, of which the number counts.
  chunked = re.compile(r'\bblocks\.\d+\.(\d+)\.')
  # DINOv2's and DINOv3's registers; timm's are reg_token.
  registers = re.compile(r'\b(register|storage)_tokens$')
  # BERT of TensorFlow's days.
  norms = {'.gamma': '.weight', '.beta': '.bias'}

  def renamed(name: str) -> str:
    name = registers.sub('reg_token', chunked.sub(r'blocks.\1.', name))
    head, dot, last = name.rpartition('.')
    if head.endswith('LayerNorm'):
      return head + norms.get(dot + last, dot + last)
    return name

  return {renamed(name): array for name, array in arrays.items()}


def _arrays(tree: Mapping[Any, Any]) -> Arrays:
  """Those entries that are arrays."""
  return {str(k): v for k, v in tree.items() if isinstance(v, np.ndarray)}
