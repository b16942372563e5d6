"""What each field of a config may be, checked before anything is read.

The table has an entry for every field of `config.base()`; those of objectives
have theirs in `Fields`. What only another field, the data or the devices can
tell is checked where these are known.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from contrastive_jax.config import Config, Error, base, flat
from contrastive_jax.data import crops, photometric
from contrastive_jax.models import positions
from contrastive_jax.objectives import _fields
from contrastive_jax.training import best, loggers, sizing

_STAGES = base().augment.stages
# Given as None: nothing, or chosen when the run begins.
_MAY_BE_NONE = ('steps', 'minutes', 'optimizer.weight_decay_end', *sizing.OPEN)


class Range(NamedTuple):
  """Of a field; of a tuple, `ends` hold for each of its entries.

  Attributes:
    ends: as the arguments of `objectives.field`.
    lengths: that a tuple may have; none: any.
    entries: the type of a tuple's entries.
    rises: whether a tuple's entries do.
  """

  ends: dict[str, Any]
  lengths: Sequence[int] = ()
  entries: type = float
  rises: bool = False


def _of(**ends: Any) -> Range:
  return Range(ends)


def _pair(**ends: Any) -> Range:
  return Range(ends, (2,), rises=True)


_ANY = _of()
_COUNT = _of(least=1)
_SHARE = _of(least=0, most=1)
_NOT_NEGATIVE = _of(least=0)
_EPOCHS = _of(least=0, most=10**6)  # in steps they are to be int32
_PART_OF_AREA = _pair(above=0, most=1)
_VIEWS = Range(dict(least=0, most=1), range(1, 100))

RANGES = {
  'seed': _NOT_NEGATIVE,
  'batch_size': _of(least=2),  # one image has no negatives
  'microbatch': _NOT_NEGATIVE,
  'epochs': _COUNT,
  'steps': _COUNT,
  'minutes': _of(above=0),
  'on_collapse': _of(among=('warn', 'stop')),
  'on_worse': _of(among=('warn', 'stop')),
  'watchdog_minutes': _NOT_NEGATIVE,
  'mapping': _of(among=('shard_map', 'pmap')),
  'sharding': _of(among=('replicated', 'zero')),
  'objective.name': _ANY,
  # Names are looked up by the encoder's family, which may be the user's own.
  'encoder.name': _ANY,
  'encoder.width': _COUNT,
  'encoder.stem': _ANY,
  'encoder.norm': _ANY,
  'encoder.dtype': _ANY,
  'encoder.zero_init_last_scale': _ANY,
  'encoder.kernel_init': _ANY,
  'encoder.patch_size': _NOT_NEGATIVE,
  'encoder.pool': _of(among=('token', 'mean', 'last')),
  'encoder.dropout': _of(least=0, below=1),
  'encoder.causal': _ANY,
  'encoder.registers': _NOT_NEGATIVE,
  'encoder.depth': _NOT_NEGATIVE,
  'encoder.heads': _NOT_NEGATIVE,
  'encoder.positions': _of(among=('learned', 'sincos')),
  'encoder.interpolation': _of(among=tuple(positions.INTERPOLATIONS)),
  'encoder.pretrained_size': _NOT_NEGATIVE,
  'encoder.layer_scale': _NOT_NEGATIVE,
  'encoder.vit_init': _of(among=('trunc_normal', 'xavier')),
  'encoder.drop_path': _of(least=0, below=1),
  'encoder.drop_path_uniform': _ANY,
  'encoder.remat': _of(among=('none', 'blocks')),
  'encoder.init': _ANY,
  'encoder.init_channels': _of(among=('refuse', 'sum', 'repeat', 'mean')),
  'data.source': _ANY,
  'data.image_size': _NOT_NEGATIVE,
  'data.interpolation': _of(among=crops.INTERPOLATIONS),
  'data.antialias': _ANY,
  # Of pixels in [0, 1]: those of [0, 255] would train, and badly.
  'data.mean': Range(dict(least=0, most=1)),
  'data.std': Range(dict(above=0, most=1)),
  'data.background': Range(dict(least=0, most=1), (1, 3)),
  'data.maximum': _NOT_NEGATIVE,
  'data.eval_crop': _of(above=0, most=1),
  'text.tokenizer': _ANY,
  'text.vocabulary': _of(least=300),
  'text.max_length': _of(least=4),
  'text.views': _of(among=('all', 'same', 'pairs', 'negatives')),
  'text_encoder.name': _ANY,
  'text_encoder.pool': _of(among=('token', 'mean', 'last')),
  'text_encoder.depth': _NOT_NEGATIVE,
  'text_encoder.heads': _NOT_NEGATIVE,
  'text_encoder.dropout': _of(least=0, below=1),
  'text_encoder.drop_path': _of(least=0, below=1),
  'text_encoder.causal': _ANY,
  'text_encoder.dtype': _of(among=('float32', 'bfloat16')),
  'text_encoder.remat': _of(among=('none', 'blocks')),
  'text_encoder.init': _ANY,
  'data.held_out': _of(least=0, below=1),
  'augment.stages': Range({}, entries=str),  # each once, see `check`
  'augment.crop_rule': _of(among=tuple(crops.RULES)),
  'augment.crop_scale': _PART_OF_AREA,
  'augment.crop_ratio': _pair(above=0),
  'augment.flip': _SHARE,
  'augment.jitter': _SHARE,
  'augment.jitter_form': _of(among=tuple(photometric.FORMS)),
  'augment.strength': _NOT_NEGATIVE,
  'augment.brightness': _NOT_NEGATIVE,
  'augment.contrast': _NOT_NEGATIVE,
  'augment.saturation': _NOT_NEGATIVE,
  'augment.hue': _of(least=0, most=0.5),  # of a turn, both ways
  'augment.grayscale': _SHARE,
  'augment.blur': _VIEWS,
  'augment.blur_sigma': _pair(above=0),
  'augment.solarize': _VIEWS,
  'augment.local_crops': _NOT_NEGATIVE,
  'augment.local_size': _COUNT,
  'augment.local_scale': _PART_OF_AREA,
  'augment.local_blur': _SHARE,
  'augment.local_solarize': _SHARE,
  'augment.channel_drop': _SHARE,
  'optimizer.name': _of(among=('lars', 'larc', 'sgd', 'adamw')),
  'optimizer.base_learning_rate': _of(above=0),
  'optimizer.scaling': _of(among=('linear', 'sqrt')),
  'optimizer.warmup_epochs': _EPOCHS,
  'optimizer.warmup_start': _SHARE,
  'optimizer.schedule': _of(among=('cosine', 'linear', 'step')),
  'optimizer.final_fraction': _SHARE,
  'optimizer.milestones': Range(dict(least=0, most=1)),
  'optimizer.bias_and_norm_rate': _NOT_NEGATIVE,
  'optimizer.encoder_rate': _NOT_NEGATIVE,
  'optimizer.layer_decay': _of(above=0, most=1),
  'optimizer.patch_rate': _NOT_NEGATIVE,
  'optimizer.constant_rate': Range({}, entries=str),
  'optimizer.frozen': Range({}, entries=str),
  'optimizer.frozen_epochs': _EPOCHS,
  'optimizer.momentum': _of(least=0, below=1),
  'optimizer.adam_b2': _of(least=0, below=1),
  'optimizer.nesterov': _ANY,
  'optimizer.weight_decay': _NOT_NEGATIVE,
  'optimizer.weight_decay_end': _NOT_NEGATIVE,
  'optimizer.decay_bias_and_norm': _ANY,
  'optimizer.clip_tensor_norm': _NOT_NEGATIVE,
  'optimizer.clip_norm': _NOT_NEGATIVE,
  'optimizer.trust_coefficient': _of(above=0),
  'optimizer.learning_rate_inside_momentum': _ANY,
  'checkpoint.every_steps': _COUNT,
  'checkpoint.keep': _COUNT,
  'checkpoint.best_by': _of(among=('none', *best.MEASURES)),
  'log.every_steps': _COUNT,
  'log.to': _of(among=('none', *loggers.PACKAGES)),
  'evaluation.batch_size': _COUNT,
  'evaluation.every_epochs': _EPOCHS,
  'evaluation.knn_k': _COUNT,
  'evaluation.knn_temperature': _of(above=0),
  'evaluation.labels_per_class': _COUNT,
  'evaluation.baselines': _ANY,
}


def check(config: Config) -> None:
  """Refuses what cannot be, in every field but those of the objective.

  Args:
    config: of known keys, see `config.check_keys`; what `sizing` chooses may
      still be None.

  Raises:
    Error: a value of another type, or out of its range; one sentence.
  """
  values, defaults = flat(config.to_dict()), base()
  for name, allowed in RANGES.items():
    value = values[name]
    if value is None and name in _MAY_BE_NONE:
      continue
    kind = _type(defaults, name)
    if kind is tuple:
      _check_tuple(name, value, allowed)
    else:
      _fields.check(name, value, kind, allowed.ends)
  loggers.check(config.log.to)
  by = config.checkpoint.best_by
  if by not in ('none', 'loss') and not config.evaluation.every_epochs:
    raise Error(
      f'checkpoint.best_by={by} is measured every evaluation.every_epochs, '
      'which is 0: set it to 1, say'
    )
  if config.on_worse == 'stop' and not config.evaluation.every_epochs:
    raise Error(
      'on_worse=stop goes by what is measured every evaluation.every_epochs, '
      'which is 0: set it to 1, say'
    )
  augment = config.augment
  if len(augment.blur) != len(augment.solarize):
    raise Error(
      f'augment.blur is for {len(augment.blur)} views, augment.solarize for '
      f'{len(augment.solarize)}'
    )
  if sorted(augment.stages) != sorted(_STAGES):
    raise Error(
      'augment.stages names each of ' + ', '.join(_STAGES) + ' once, not '
      f'{tuple(augment.stages)}; a probability of 0 leaves one out'
    )


def _type(defaults: Config, name: str) -> type:
  *path, last = name.split('.')
  for part in path:
    defaults = defaults[part]
  return defaults.get_type(last)


def _check_tuple(name: str, value: Any, allowed: Range) -> None:
  if not isinstance(value, tuple | list):
    raise Error(f'{name} is {value!r}: it must be of type tuple')
  lengths = allowed.lengths
  if not value and lengths and 0 not in lengths:
    raise Error(f'{name} is empty: it has {_or_more(lengths)} entries')
  for entry in value:
    _fields.check(
      f'an entry of {name}',
      entry,
      allowed.entries,
      allowed.ends,
      what=f'{name} is {tuple(value)}, with an entry {entry!r}',
    )
  if lengths and len(value) not in lengths:
    raise Error(
      f'{name} is {tuple(value)}: it has {_or_more(lengths)} entries, not '
      f'{len(value)}'
    )
  if allowed.rises and sorted(value) != list(value):
    raise Error(f'{name} is {tuple(value)}: it must rise')


def _or_more(lengths: Sequence[int]) -> str:
  if isinstance(lengths, range):
    return f'{lengths[0]} or more'
  *most, last = map(str, lengths)
  return ', '.join(most) + f' or {last}' if most else last
