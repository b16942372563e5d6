"""Learning rates that differ by layer: of a pretrained encoder, and in it."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import optax

from contrastive_jax.config import Config

# A block of a ViT, or of a stage; ConvNeXt's norm and convolution before a
# stage go with its first block.
_BLOCK = re.compile(r'(?:stage(\d+)_)?block(\d+)')
_BEFORE = re.compile(r'stage(\d+)_(?:norm|conv)')


def differ(config: Config) -> bool:
  """Returns whether the config's `optimizer` has such rates."""
  fields = ('encoder_rate', 'layer_decay', 'patch_rate')
  return any(config[field] != 1 for field in fields)


def factors(config: Config, params: Any) -> Any:
  """Returns the factor on the learning rate of each parameter.

  With L blocks, what comes before them has layer_decay^(L + 1), block i (from
  0) layer_decay^(L - i), the last norm 1; the map of a ViT's patches patch_rate
  times its layer's. All of the encoder times encoder_rate.

  Args:
    config: the config's `optimizer`.
    params: arrays or anything else, under the names of the parameters.

  Returns:
    A float for each.

  Reference:
    DINOv2 (2304.07193) dinov2/utils/param_groups.py, get_vit_lr_decay_rate; of
    BEiT (2106.08254), section 3.2.
  """
  layers, last = _layers(params.get('encoder', {}))

  def factor(path, _) -> float:
    names = [str(getattr(entry, 'key', entry)) for entry in path]
    if names[0] == 'mask_token':  # it stands where the patches do
      return config.encoder_rate * config.layer_decay**last
    if names[0] != 'encoder':
      return 1.0
    name = names[1] if len(names) > 1 else ''
    rate = config.layer_decay ** (last - layers.get(name, last))
    if name == 'patch_embed':
      rate *= config.patch_rate
    return config.encoder_rate * rate

  return jax.tree.map_with_path(factor, params)


def scale(config: Config) -> optax.GradientTransformation:
  """Returns the transformation that applies `factors` to the updates."""

  def update(updates, params=None):
    del params
    return jax.tree.map(lambda u, f: u * f, updates, factors(config, updates))

  return optax.stateless(update)


def _layers(encoder: Mapping[str, Any]) -> tuple[dict[str, int], int]:
  """The number of each entry's layer, 0 before the blocks; and L + 1."""
  blocks = sorted(
    (int(match[1] or 0), int(match[2]), name)
    for name in encoder
    if (match := _BLOCK.fullmatch(name))
  )
  numbers = {name: i for i, (_, _, name) in enumerate(blocks, 1)}
  first = {stage: numbers[name] for stage, _, name in reversed(blocks)}
  for name in encoder:
    if name in numbers:
      continue
    if match := _BEFORE.fullmatch(name):
      numbers[name] = first[int(match[1])]
    else:  # the last norm comes behind all blocks
      behind = name in ('norm', 'fc_norm')
      numbers[name] = len(blocks) + 1 if behind else 0
  return numbers, len(blocks) + 1
