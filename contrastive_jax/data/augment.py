"""Random photometric augmentation, on the device, inside the training step.

The host only decodes, crops and sends uint8 (`pipeline.py`); flip, color
jitter, grayscale, blur and solarize happen here, drawn anew for every example,
epoch and view. Global views come first, local crops after them.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.config import Error
from contrastive_jax.data import photometric


def blur_radius(height: int) -> int:
  """Returns the blur's radius in pixels: 11 for 224, that is 23 taps.

  SimCLR and BYOL ask for a kernel of a tenth of the side and keep
  int(size / 2). Below 20 pixels that would be no blur at all; it is 1 here, so
  that a configured blur always blurs.
  """
  return max(1, height // 20)


def skipped_operations(config: Any, channels: int) -> tuple[str, ...]:
  """Names the configured operations that these images cannot have.

  Args:
    config: the `augment` part of the config.
    channels: of the images.

  Returns:
    Of images that are not RGB saturation, hue and grayscale; of gray ones the
    drop of a channel, of all but these solarize; of these what is configured.
  """
  amounts = dict(_jitter_amounts(config, 3), grayscale=config.grayscale)
  names = () if channels == 3 else ('saturation', 'hue', 'grayscale')
  if channels not in (1, 3):
    names += ('solarize',)
    # Half of its range is a gray of no other band.
    amounts['solarize'] = max(*config.solarize, config.local_solarize)
  if channels == 1:
    names += ('channel_drop',)
    amounts['channel_drop'] = config.channel_drop
  return tuple(name for name in names if amounts.get(name, 0) > 0)


def to_float(images: jax.Array) -> jax.Array:
  """Returns pixels float32 in [0, 1].

  Args:
    images: uint8, or float32 in [0, 1], which stay as they are.
  """
  if images.dtype == jnp.uint8:
    return images.astype(jnp.float32) / 255.0
  return images


def augment_view(
  images: jax.Array,
  *,
  view: int | jax.Array,
  ids: jax.Array,
  epochs: jax.Array,
  seed: int,
  config: Any,
) -> jax.Array:
  """Draws one view of every image: the config's stages, one after the other.

  Works per example, under jit, vmap, shard_map and pmap alike. An operation
  that is configured as zero costs nothing; on images that are not RGB those
  of `skipped_operations` are left out.

  Args:
    images: [b, H, W, C], already cropped: uint8, or float32 in [0, 1].
    view: 0, 1, ...; chooses the probabilities of blur and solarize: those of
      this global view, or from len(config.blur) on those of local crops. An
      array int32 [b]: of each image its own, not checked.
    ids: int32 [b], the examples' places in the data source.
    epochs: int32 [b].
    seed: of the run.
    config: the `augment` part of the config; static under jit.

  Returns:
    float32 [b, H, W, C] in [0, 1].

  Raises:
    ValueError: the config has no such view, a blur without width, or the
      images are of another type.

  Reference: SimCLR (2002.05709) appendix A; BYOL (2006.07733) appendix B;
    the order of the stages: `presets.py`.
  """
  global_views = len(config.blur)
  if len(config.solarize) != global_views:
    raise Error(
      f'augment.blur is for {global_views} views, augment.solarize for '
      f'{len(config.solarize)}.'
    )
  if (
    isinstance(view, int) and not 0 <= view < global_views + config.local_crops
  ):
    raise Error(
      f'there is no view {view}: the config has {global_views} global views '
      f'and {config.local_crops} local crops.'
    )
  if _is_possible(config, 'blur', view) and config.blur_sigma[0] <= 0:
    raise Error(
      f'augment.blur_sigma starts at {config.blur_sigma[0]} pixels, but has '
      'to be above 0.'
    )
  if images.dtype not in (jnp.uint8, jnp.float32):
    raise Error(f'images are {images.dtype}, but have to be uint8 or float32.')

  def augment_one(image, example_id, epoch, view):
    key = keys.example(seed, epoch, example_id, view)
    return _augment(key, to_float(image), view, config)

  of_each = None if isinstance(view, int) else 0
  return jax.vmap(augment_one, (0, 0, 0, of_each))(images, ids, epochs, view)


def mirrored(
  *, view: int, ids: jax.Array, epochs: jax.Array, seed: int, config: Any
) -> jax.Array:
  """Returns which images `augment_view` mirrors.

  Args:
    view: see `augment_view`, also for the others.
    ids: int32 [b].
    epochs: int32 [b].
    seed: of the run.
    config: the `augment` part of the config.

  Returns:
    bool [b].
  """

  def of_one(example_id, epoch):
    unit = _draws(keys.example(seed, epoch, example_id, view))
    return _is_mirrored(unit, config)

  return jax.vmap(of_one)(ids, epochs)


def _draws(key):
  # One draw for all: each stage has its own numbers, whether it uses them or
  # not, so that leaving one out, or moving it, does not change the others.
  return jax.random.uniform(key, (12,), jnp.float32)


def _augment(key, image, view, config):
  """The stages, in the config's order."""
  unit = _draws(key)
  bands = None
  if (channels := image.shape[-1]) not in (1, 3):
    # In the place of hue and saturation: a brightness and a contrast each.
    own = jax.random.fold_in(key, keys.View.BANDS)
    bands = jax.random.uniform(own, (2, channels), jnp.float32)
  stages = {
    'flip': _flip,
    'jitter': functools.partial(_jitter, bands=bands),
    'grayscale': _grayscale,
    'blur': _blur,
    'solarize': _solarize,
  }
  for name in config.stages:
    image = stages[name](image, unit, view, config)
  return _channel_drop(image, key, config)


def _is_mirrored(unit, config):
  return (unit[0] < config.flip) & ('flip' in config.stages)


def _flip(image, unit, view, config):
  if config.flip <= 0:
    return image
  return photometric.flip(image, _is_mirrored(unit, config))


def _jitter(image, unit, view, config, bands):
  amounts = _jitter_amounts(config, image.shape[-1])
  if not amounts:
    return image
  jittered = photometric.color_jitter(
    image,
    tuple(amounts),
    form=config.jitter_form,
    **_jitter_draw(unit[1:7], amounts, bands),
  )
  return jnp.where(unit[7] < config.jitter, jittered, image)


def _grayscale(image, unit, view, config):
  if config.grayscale <= 0 or image.shape[-1] != 3:
    return image
  gray = photometric.to_grayscale(image)
  return jnp.where(unit[8] < config.grayscale, gray, image)


def _blur(image, unit, view, config):
  if not _is_possible(config, 'blur', view):
    return image
  chance = _view_chance(config, 'blur', view)
  low, high = config.blur_sigma
  sigma = low + unit[9] * (high - low)
  blurred = photometric.gaussian_blur(image, sigma, blur_radius(image.shape[0]))
  # The weights sum to 1 only up to rounding.
  blurred = jnp.clip(blurred, 0.0, 1.0)
  return jnp.where(unit[10] < chance, blurred, image)


def _solarize(image, unit, view, config):
  possible = _is_possible(config, 'solarize', view)
  if not possible or image.shape[-1] not in (1, 3):
    return image
  chance = _view_chance(config, 'solarize', view)
  return jnp.where(unit[11] < chance, photometric.solarize(image), image)


def _channel_drop(image, key, config):
  channels = image.shape[-1]
  if config.channel_drop <= 0 or channels == 1:
    return image
  own = jax.random.fold_in(key, keys.View.CHANNEL_DROP)
  unit = jax.random.uniform(own, (2,), jnp.float32)
  dropped = jnp.arange(channels) == jnp.floor(unit[0] * channels)
  return jnp.where(dropped & (unit[1] < config.channel_drop), 0.0, image)


def _view_chance(config, name: str, view: int | jax.Array) -> Any:
  """Each global view has its own probability, all local crops share one."""
  chances = (*config[name], config[f'local_{name}'])
  if isinstance(view, int):
    return chances[min(view, len(chances) - 1)]
  return jnp.asarray(chances)[jnp.minimum(view, len(chances) - 1)]


def _is_possible(config, name: str, view: int | jax.Array) -> bool:
  if isinstance(view, int):
    return _view_chance(config, name, view) > 0
  return max(*config[name], config[f'local_{name}']) > 0


def _jitter_amounts(config, channels: int) -> dict[str, float]:
  """The adjustments that do something, with the widths of their ranges."""
  if config.jitter <= 0:
    return {}
  names = ['brightness', 'contrast']
  if channels == 3:
    names += ['saturation', 'hue']
  amounts = {name: config.strength * config[name] for name in names}
  return {name: amount for name, amount in amounts.items() if amount > 0}


def _jitter_draw(
  unit, amounts: dict[str, float], bands=None
) -> dict[str, jax.Array]:
  """Makes six uniform numbers the arguments of `photometric.color_jitter`.

  And those of `bands` [2, C], if there are any, the factors of each channel.
  """
  hue = amounts.get('hue', 0.0)
  blends = [amount for name, amount in amounts.items() if name != 'hue']
  # A row of the table of all orders: no sort on the device.
  orders = list(itertools.permutations(range(len(blends))))
  row = jnp.floor(unit[0] * len(orders)).astype(jnp.int32)
  order = jnp.array(orders, jnp.int32)[row]
  amount = jnp.array(blends, jnp.float32)[order]
  numbers = unit[1 : 1 + len(blends)]
  if bands is not None:
    numbers, amount = bands[: len(blends)], amount[:, None]
  low, high = jnp.maximum(0.0, 1 - amount), 1 + amount
  return {
    'order': order,
    'factors': low + numbers * (high - low),
    'hue_place': jnp.floor(unit[4] * (len(blends) + 1)).astype(jnp.int32),
    'hue_delta': hue * (2 * unit[5] - 1),
  }
