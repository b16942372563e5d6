"""What an encoder of ours is called elsewhere, and with which arguments."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.models import positions, vit
from contrastive_jax.weights import families
from contrastive_jax.weights.keymap import Rule

_BERT = 'bert_', 'minilm_'
_TORCHVISION = ('resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152')


def rules(library: str, config: Any) -> list[Rule]:
  """Returns the rules that name the parameters of a library's model.

  Args:
    library: 'torchvision', 'timm' or 'bert'.
    config: the config's `encoder`.

  Raises:
    Error: none is known.
  """
  if config.name.startswith('resnet'):
    return families.RESNET
  if config.name.startswith('convnext'):
    if library == 'timm':
      return families.CONVNEXT_TIMM
    return families.CONVNEXT_TORCHVISION
  if library == 'bert' and config.name.startswith(_BERT) and not config.causal:
    return families.BERT
  if config.name.startswith('vit') and library == 'timm':
    mean = config.pool == 'mean'
    return families.VIT_MEAN if mean else families.VIT_TOKEN
  raise _unknown(library, config.name)


def resized(
  module: vit.ViT, arrays: dict[str, np.ndarray], grid: positions.Grid
) -> dict[str, np.ndarray]:
  """Returns a ViT's arrays with its positions for images of one size.

  Args:
    module: the encoder.
    arrays: parameters, by name.
    grid: patches in a column, and in a row.
  """
  table = arrays.get('pos_embed')
  if table is None:
    if grid == module.grid:
      return arrays
    table = positions.sincos(module.grid, module.width)
  table = positions.resize(
    jnp.asarray(table), module.grid, grid, module.interpolation
  )
  return {**arrays, 'pos_embed': np.asarray(table)}


def fitted(
  library: str, module: Any, arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns our arrays as a library's model adds them up.

  timm's ViT has fixed positions among its parameters, and with registers no row
  for the class token: that goes into the token.

  Args:
    library: 'torchvision', 'timm' or 'bert'.
    module: the encoder.
    arrays: parameters and statistics, by name.
  """
  if library != 'timm' or not isinstance(module, vit.ViT):
    return arrays
  table = arrays.get('pos_embed')
  if table is None:
    table = positions.sincos(module.grid, module.width)
    arrays = {**arrays, 'pos_embed': table}
  if not module.registers:
    return arrays
  return {
    **arrays,
    'cls_token': arrays['cls_token'] + table[:, :1],
    'pos_embed': table[:, 1:],
  }


def model(library: str, config: Any, module: Any, channels: int) -> dict:
  """Returns what makes the same encoder there; see `theirs.build`.

  Args:
    library: 'torchvision', 'timm' or 'bert'.
    config: the config's `encoder`.
    module: the encoder itself.
    channels: of an image.

  Raises:
    Error: the library has no such encoder; one sentence that says why.
  """
  name, stem = config.name, ''
  if (library == 'bert') != name.startswith(_BERT):
    raise _unknown(library, name)
  # timm takes the channels as an argument.
  arguments: dict[str, Any] = {}
  if library == 'timm':
    arguments = {'num_classes': 0, 'in_chans': channels}
  if name.startswith('resnet'):
    stem = module.stem
    if name not in _TORCHVISION:
      raise _unknown(library, name)
    if library == 'timm' and (config.width != 64 or stem == 'cifar'):
      raise Error(
        f'timm has no {name} of width {config.width} with the stem {stem}: '
        'its stem is of 64 channels and for large images; --to=torchvision '
        'writes it, and the model that takes it is in weights/theirs.py'
      )
  elif name.startswith('vit') and library == 'timm':
    size = name.removeprefix('vit_')
    side = [n * module.patch_size for n in module.grid]
    name = f'vit_{size}_patch16_224'
    arguments |= {
      'patch_size': module.patch_size,
      'img_size': side,
      'depth': module.depth,
      'num_heads': module.heads,
      'init_values': module.layer_scale or None,
      'global_pool': 'avg' if module.pool == 'mean' else 'token',
      'reg_tokens': module.registers,
      'no_embed_class': bool(module.registers),
      'dynamic_img_size': True,
    }
  elif library == 'bert':
    return {
      'library': 'transformers',
      'function': 'BertModel',
      'arguments': {
        'vocab_size': module.vocabulary,
        'max_position_embeddings': module.longest,
        'hidden_size': module.width,
        'intermediate_size': 4 * module.width,
        'num_hidden_layers': module.depth,
        'num_attention_heads': module.heads,
      },
      'pool': module.pool,
    }
  elif not name.startswith('convnext'):
    raise _unknown(library, name)
  return {
    'library': library,
    'function': name,
    'arguments': arguments,
    'stem': stem,
    'width': config.width if name.startswith('resnet') else 0,
    'channels': channels,
  }


def _unknown(library: str, name: str) -> Error:
  return Error(
    f'{library} has no encoder that is {name}: --to=safetensors, npz and '
    'stablehlo take every encoder'
  )
