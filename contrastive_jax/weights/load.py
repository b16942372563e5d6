"""An encoder that starts from the weights in a file.

`encoder.init` is KIND:FILE, or FILE alone, whose kind is then guessed from the
names in it.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data import presets
from contrastive_jax.models import positions
from contrastive_jax.weights import families, files, hints, keymap
from contrastive_jax.weights.keymap import Arrays, Rule

KINDS = ('torchvision', 'timm', 'moco', 'dino', 'dinov2', 'bert')
CHANNELS = ('sum', 'repeat', 'mean')

_COUNTER = 'num_batches_tracked'  # of torch's batch norm, which nothing uses
# What a classifier or a projector behind an encoder is called, and what an
# evaluated encoder does not use.
_NOT_THE_ENCODER = re.compile(
  r'(head|fc|classifier|projector|projection_head|prototypes|predictor|pooler)'
  rf'\b.*|.*{_COUNTER}|mask_token'
)


class Loaded(NamedTuple):
  """Weights for an encoder of ours.

  Attributes:
    arrays: by our names, float32, of our shapes.
    notes: what was found and decided, one line each.
  """

  arrays: Arrays
  notes: tuple[str, ...]


def split_spec(spec: str) -> tuple[str, str]:
  """Returns kind and file of `encoder.init`; kind '' if it is to be guessed."""
  kind, colon, path = spec.partition(':')
  return (kind, path) if colon and kind in (*KINDS, 'run') else ('', spec)


def load(
  config: Any,
  data: Any,
  module: Any,
  shapes: Mapping[str, tuple[int, ...]],
  found: files.Found | None = None,
  section: str = 'encoder',
  theirs: hints.Theirs | None = None,
) -> Loaded:
  """Returns the weights that `init` names, fitted to an encoder.

  Args:
    config: the config's `encoder` or `text_encoder`: its name, init, and of
      images init_channels.
    data: the config's `data`, whose mean and std the weights have an idea of.
    module: the encoder; of a ViT its grid and interpolation are used.
    shapes: of all its parameters and statistics, by name ('norm/scale').
    found: the weights, if they are not in a file.
    section: the name of `config`, for the sentences.
    theirs: what is known of the weights beside them.

  Raises:
    Error: no such file, another encoder, names that are left over or missing,
      or shapes that no declared rule adapts.
  """
  kind, path = split_spec(config.init)
  if found is None:
    found = files.encoder_in(files.read(path), path)
  else:
    kind = ''
  family = found.family.rpartition(' ')[2]
  own = config.name.partition('_')[0].rstrip('0123456789')
  if family not in ('ours', 'bert' if own == 'minilm' else own):
    raise Error(
      f'{path} holds a {family}, and {section}.name is {config.name}: the two '
      'have to be of one family'
    )
  guessed = _kind(found)
  # timm and DINO have the same names.
  either = not kind and guessed == 'timm' and found.family == 'vit'
  kind = kind or guessed
  arrays = dict(found.arrays)
  notes = [
    f'{section.replace("_", " ")} from {path}'
    + (f', {found.where}' if found.where else '')
    + f', read as of {kind}'
    + (', whose names are those of dino, too' if either else '')
    + ('' if kind == guessed else f' (its names are those of {guessed})')
  ]
  if found.left:
    notes.append(f'not of the encoder, left: {files.shortened(found.left)}')
  if family == 'ours':
    mine = {n: a for n, a in arrays.items() if n in shapes}
    missing = [name for name in shapes if name not in arrays]
    over = [name for name in arrays if name not in shapes]
  else:
    if module.__class__.__name__ == 'ViT':
      _check_positions(arrays, module, path)
      notes += filter(None, [hints.check_pool(arrays, module, path)])
    if family == 'bert':
      if module.causal:
        raise Error(
          f'{path} holds a BERT, which reads in both directions: set '
          f'{section}.causal=False'
        )
      _fold_types(arrays, module, path)
    rules = _rules(found, arrays)
    mine, missing, over = keymap.to_ours(rules, arrays, shapes)
  heads = [name for name in over if _NOT_THE_ENCODER.fullmatch(name)]
  over = [name for name in over if name not in heads]
  if left := [n for n in heads if not n.endswith(_COUNTER)]:
    notes.append(f'not of the encoder, left: {files.shortened(left)}')
  if missing or over:
    raise Error(
      f'{path} does not fit {config.name} as it is configured'
      + (
        f'; missing in the file, {files.shortened(missing)}' if missing else ''
      )
      + (f'; in the file alone, {files.shortened(over)}' if over else '')
      + hints.of_names(missing, over)
    )
  hints.check_width(mine, shapes, path)
  if theirs is not None:
    notes += hints.check_theirs(theirs, module, data, path)
  mine = {
    name: _fitted(
      name,
      np.asarray(array, np.float32),
      shapes[name],
      config,
      path,
      module,
      notes,
    )
    for name, array in mine.items()
  }
  notes += _expectations(kind, family, found, data, module, either)
  return Loaded(mine, tuple(notes))


def _kind(found: files.Found) -> str:
  """Guesses from the names where a file comes from."""
  if found.family == 'ours':
    return 'contrastive_jax'
  if found.family == 'bert':
    return 'bert'
  if found.family in ('convnext', 'torchvision convnext'):
    return 'timm' if found.family == 'convnext' else 'torchvision'
  if any(p in found.where for p in ('encoder_q', 'base_encoder')):
    return 'moco'
  if found.family == 'resnet':
    return 'dino' if 'teacher' in found.where else 'torchvision'
  if 'mask_token' in found.arrays:
    return 'dinov2'
  official = 'teacher' in found.where or 'backbone' in found.where
  return 'dino' if official else 'timm'


def _rules(found: files.Found, arrays: Arrays) -> list[Rule]:
  if found.family == 'vit':
    mean = 'fc_norm.weight' in arrays
    return families.VIT_MEAN if mean else families.VIT_TOKEN
  return {
    'resnet': families.RESNET,
    'convnext': families.CONVNEXT_TIMM,
    'bert': families.BERT,
    'torchvision convnext': families.CONVNEXT_TORCHVISION,
  }[found.family]


def _check_positions(arrays: Arrays, module: Any, path: str) -> None:
  """Makes one form of the position tables that there are, in place."""
  table = arrays.get('pos_embed')
  if table is None or table.ndim != 3:
    return
  if math.isqrt(table.shape[1]) ** 2 == table.shape[1]:
    # timm with registers adds the class token's position to the token.
    zero = np.zeros_like(table[:, :1])
    arrays['pos_embed'] = table = np.concatenate([zero, table], 1)
  if module.positions == 'sincos':
    side = math.isqrt(table.shape[1] - 1)
    ours = positions.sincos((side, side), table.shape[2])
    if not np.allclose(table, ours, atol=1e-5):
      raise Error(
        f'{path} has positions of its own, and encoder.positions is sincos: '
        'set it to learned'
      )
    del arrays['pos_embed']


def _fold_types(arrays: Arrays, module: Any, path: str) -> None:
  """Adds the type of a first sentence to all positions, in place.

  A sentence alone has no other. Of the positions as many are left as sentences
  may have tokens.
  """
  arrays.pop('embeddings.position_ids', None)
  types = arrays.pop('embeddings.token_type_embeddings.weight', None)
  name = 'embeddings.position_embeddings.weight'
  table = arrays.get(name)
  if table is None:
    return
  if len(table) < module.longest:
    raise Error(
      f'{path} is for sentences of at most {len(table)} tokens: set '
      'text.max_length'
    )
  table = table[: module.longest]
  arrays[name] = table if types is None else table + types[:1]


def _fitted(
  name: str,
  array: np.ndarray,
  shape: tuple[int, ...],
  config: Any,
  path: str,
  module: Any,
  notes: list[str],
) -> np.ndarray:
  """An array of our shape; by a declared rule, if it is another."""
  if array.shape == shape:
    return array
  if name == 'pos_embed' and array.ndim == 2 and array.shape[1] == shape[1]:
    if len(array) > shape[0]:
      return array[: shape[0]]
    raise Error(
      f'{path} is for sentences of at most {len(array)} tokens: set '
      'text.max_length'
    )
  if name == 'pos_embed' and array.ndim == 3 and array.shape[2] == shape[2]:
    side = math.isqrt(array.shape[1] - 1)
    if side**2 == array.shape[1] - 1:
      notes.append(
        f'positions of {side} x {side} patches interpolated to '
        f'{" x ".join(map(str, module.grid))}, as {module.interpolation} does'
      )
      resized = positions.resize(
        jnp.asarray(array), (side, side), module.grid, module.interpolation
      )
      return np.asarray(resized)
  first = name in ('stem_conv/kernel', 'patch_embed/kernel')
  if first and array.shape[:2] == shape[:2] and array.shape[3] == shape[3]:
    return _channels(array, shape[2], config.init_channels, path, notes)
  hint = ''
  if name == 'stem_conv/kernel' and array.shape[0] in (3, 7):
    stem = 'imagenet' if array.shape[0] == 7 else 'cifar'
    hint = f': encoder.stem={stem} is the stem of this file'
  elif name == 'token_embed':
    hint = ': text.tokenizer has to be the tokenizer.json that belongs to it'
  elif name == 'patch_embed/kernel':
    hint = f': encoder.patch_size={array.shape[0]} is that of this file'
  raise Error(
    f'{path}: {name} is {" x ".join(map(str, array.shape))} in the file, and '
    f'{" x ".join(map(str, shape))} in {config.name} as it is configured{hint}'
  )


def _channels(
  kernel: np.ndarray, channels: int, rule: str, path: str, notes: list[str]
) -> np.ndarray:
  """A first kernel [h, w, in, out] for other input channels."""
  given = kernel.shape[2]
  if rule not in CHANNELS:
    raise Error(
      f'{path} is for images of {given} channels, the data has {channels}: '
      'encoder.init_channels says what to do: sum (one channel takes the place '
      'of all), repeat (channels in turn), mean (their mean for each)'
    )
  if rule == 'sum' and channels != 1:
    raise Error(
      f'encoder.init_channels=sum makes one channel, and the data has '
      f'{channels}: take repeat or mean'
    )
  notes.append(
    f'the first kernel of {given} channels made one of {channels}: '
    f'encoder.init_channels={rule}'
  )
  if rule == 'sum':
    return kernel.sum(2, keepdims=True)
  # As much comes out for images whose channels are alike.
  scale = np.float32(given / channels)
  if rule == 'mean':
    mean = kernel.mean(2, keepdims=True)
    return scale * np.repeat(mean, channels, 2)
  return scale * kernel[:, :, np.arange(channels) % given]


def _expectations(
  kind: str,
  family: str,
  found: files.Found,
  data: Any,
  module: Any,
  either: bool,
) -> list[str]:
  """What weights take for granted and a config may not have."""
  notes = []
  if kind not in ('contrastive_jax', 'timm', 'bert'):
    mean, std = presets.IMAGENET
    if tuple(data.mean) != mean and len(data.mean) != 1:
      shown = ', '.join(map(str, mean)), ', '.join(map(str, std))
      notes.append(
        f'weights of {kind} are of pixels normalized by mean ({shown[0]}) and '
        f'std ({shown[1]}): data.mean and data.std are others'
      )
  if kind == 'moco':
    notes += filter(None, [hints.of_moco(module)])
  if kind == 'timm':
    notes.append(
      'weights of timm are of pixels normalized as their own model says '
      '(pretrained_cfg): data.mean and data.std have to say the same'
    )
  rule = {'timm': 'timm', 'dino': 'dino', 'dinov2': 'dino'}.get(kind)
  if rule == 'dino' and 'reg_token' in found.arrays:
    rule = 'dinov2_registers'
  if family == 'vit' and rule and module.interpolation != rule:
    if module.positions == 'learned' and not either:
      notes.append(
        f'{kind} interpolates positions otherwise: encoder.interpolation='
        f'{rule} gives its features at other sizes'
      )
  return notes
