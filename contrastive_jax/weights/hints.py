"""What a config has to say so that weights fit, or mean what they meant."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from contrastive_jax.config import Error
from contrastive_jax.models.vit import ViT

# MoCo v3's ViT-S (vits.py of its official code) has twice the usual heads.
_MOCO_SMALL = 384, 12


class Theirs(NamedTuple):
  """What is known of a trained encoder that shapes do not tell.

  Attributes:
    module: of Flax.
    mean: of `data.mean`, when it was trained.
    std: of `data.std`, likewise.
  """

  module: Any
  mean: Sequence[float]
  std: Sequence[float]


def of_names(missing: Sequence[str], over: Sequence[str]) -> str:
  """Returns which fields explain names that are on one side only; or ''.

  Args:
    missing: names of the file that are not in it.
    over: names that are in the file alone.
  """
  fields = []
  for part, there, not_there in (
    ('ls1.gamma', 'encoder.layer_scale=1e-5', 'encoder.layer_scale=0.0'),
    ('reg_token', 'encoder.registers to their number', 'encoder.registers=0'),
    ('fc_norm.weight', 'encoder.pool=mean', 'encoder.pool=token'),
  ):
    if any(name.endswith(part) for name in over):
      fields.append(there)
    elif any(name.endswith(part) for name in missing):
      fields.append(not_there)
  return f': set {" and ".join(fields)}' if fields else ''


def check_width(
  arrays: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], path: str
) -> None:
  """Refuses a ResNet of another width, before any of its tensors.

  Args:
    arrays: of the file, by our names.
    shapes: that are wanted.
    path: of the file.

  Raises:
    Error: the widths differ.
  """
  name = 'stem_conv/kernel'
  if name not in arrays or 'stem_norm/mean' not in arrays:
    return  # no ResNet
  width, ours = arrays[name].shape[-1], shapes[name][-1]
  if width != ours:
    raise Error(
      f'{path} holds a ResNet of width {width}, and encoder.width is {ours}: '
      f'set encoder.width={width}'
    )


def check_pool(names: Mapping[str, Any], module: ViT, path: str) -> str:
  """Compares what a ViT's feature is in a file and in the config.

  Args:
    names: of the file.
    module: that is configured.
    path: of the file.

  Returns:
    A note, or ''.

  Raises:
    Error: the file's norm is that of a mean.
  """
  if 'fc_norm.weight' in names and module.pool != 'mean':
    raise Error(
      f'{path} holds a ViT whose feature is the mean of its patches: set '
      'encoder.pool=mean'
    )
  if 'fc_norm.weight' not in names and module.pool == 'mean':
    return (
      'the norm in the file is that of all tokens, of which the first is the '
      "feature in most; encoder.pool=mean puts it behind the patches' mean"
    )
  return ''


def of_moco(module: Any) -> str:
  """Returns a note where MoCo v3's ViT-S has other heads; or ''."""
  width, heads = _MOCO_SMALL
  if isinstance(module, ViT) and module.width == width:
    if module.heads != heads:
      return (
        f'warning: the ViT-S of MoCo v3 has {heads} heads (encoder.heads='
        f'{heads}), and {module.heads} are configured: its features would be '
        'others'
      )
  return ''


def check_theirs(
  theirs: Theirs, module: Any, data: Any, path: str
) -> list[str]:
  """Compares what shapes do not tell.

  Args:
    theirs: what is known of the trained encoder.
    module: that is configured.
    data: the config's `data`.
    path: of file or run.

  Returns:
    A note for each difference that may be meant.

  Raises:
    Error: a difference that makes another function of the same weights.
  """
  other, notes = theirs.module, []
  if isinstance(other, ViT) and isinstance(module, ViT):
    for field in ('heads', 'pool'):
      if (value := getattr(other, field)) != getattr(module, field):
        raise Error(
          f'{path} was trained with {field}={value}: set encoder.{field}='
          f'{value}'
        )
    if other.interpolation != module.interpolation:
      notes.append(
        f'it was trained with encoder.interpolation={other.interpolation}: '
        'features of other sizes differ'
      )
  before, now = (
    (tuple(theirs.mean), tuple(theirs.std)),
    (tuple(data.mean), tuple(data.std)),
  )
  if before != now:
    notes.append(
      'it was trained on pixels '
      + (
        f'normalized by data.mean={before[0]} and data.std={before[1]}'
        if before[0]
        else 'as they are (data.mean=())'
      )
      + ': here they are others'
    )
  return notes
