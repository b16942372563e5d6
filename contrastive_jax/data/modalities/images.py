"""Images: crops on the host, photometric augmentation on the device."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.config import Config, Error
from contrastive_jax.data import augment, pipeline
from contrastive_jax.data.modalities import Modality, Preview
from contrastive_jax.data.split import Split

# Sources of larger images get this many pixels unless the config says more.
_SMALL_IMAGE = 64
# Raw pixels of larger images are compared at this size.
_PIXELS_SIZE = 32


def make(
  config: Config, split: Split, folder: pathlib.Path | None = None
) -> Modality:
  """Returns what host and device make of images.

  Args:
    config: `seed`, `data` and `augment` are used; an image_size of 0 becomes
      the source's own, at most 64.
    split: of training.
    folder: not used; nothing is fitted to images.

  Raises:
    ValueError: the config and the images do not fit together.
  """
  del folder
  data = config.data
  if not data.image_size:
    side = max(split.image_shape) if split.image_shape else _SMALL_IMAGE
    data.image_size = min(side, _SMALL_IMAGE)
  _check(config, split.channels)
  side, channels = data.image_size, split.channels
  specs = view_specs(config)

  def eval_batches(split, *, size=side, crop=data.eval_crop, **options):
    return pipeline.eval_batches(
      split,
      image_size=size,
      crop=crop,
      interpolation=data.interpolation,
      antialias=data.antialias,
      **options,
    )

  augment_fn = functools.partial(augmented_views, config=config)

  def pictures(split, *, side, limit=None, whole=False):
    batches = eval_batches(
      split,
      size=side,
      crop=None if whole else data.eval_crop,
      batch_size=64,
      limit=limit,
    )
    return {
      int(batch['id'][i]): batch['input'][i]
      for batch in batches
      for i in np.flatnonzero(batch['mask'])
    }

  def frozen_input(images):
    return network_input(augment.to_float(images), data)

  notes = ()
  if skipped := augment.skipped_operations(config.augment, channels):
    notes = (
      f'left out for images of {channels} channels: ' + ', '.join(skipped),
    )
  return Modality(
    input_shape=(side, side, channels),
    train_batches=functools.partial(
      pipeline.TrainBatches,
      views=specs,
      interpolation=data.interpolation,
      antialias=data.antialias,
    ),
    views=lambda batch: tuple(
      network_input(images, data) for images in augmented_views(batch, config)
    ),
    raw_views=_raw_views,
    render=functools.partial(_render, config=config),
    # Of a pair, each image has places of its own.
    places=None
    if getattr(split.reader, 'partner', None) is not None
    else functools.partial(_places, config=config),
    example_views=lambda rows: tuple(
      jnp.zeros((rows, view.size, view.size, channels)) for view in specs
    ),
    eval_batches=eval_batches,
    frozen_input=frozen_input,
    baseline=(
      'raw pixels',
      functools.partial(eval_batches, size=min(side, _PIXELS_SIZE)),
    ),
    preview=Preview(
      lambda batch: jax.jit(augment_fn)(batch),
      lambda reader, i: reader.image(i),
      _titles(config),
      _caption(config, channels),
      pictures,
    ),
    notes=notes,
  )


def view_specs(config: Config) -> list[pipeline.View]:
  """Returns the crops that the pipeline makes of each image."""
  augment = config.augment
  ratio = tuple(augment.crop_ratio)
  global_view = pipeline.View(
    config.data.image_size,
    tuple(augment.crop_scale),
    ratio,
    augment.crop_rule,
  )
  local_crop = global_view._replace(
    size=augment.local_size, scale=tuple(augment.local_scale)
  )
  return [global_view] * len(augment.blur) + [local_crop] * augment.local_crops


def network_input(images: jax.Array, data: Config) -> jax.Array:
  """Returns [0, 1] pixels less the config's mean, over its deviation.

  Args:
    images: float32 [b, height, width, channels] in [0, 1].
    data: the config's `data`; its mean and std have one entry a channel, or
      none (SimCLR feeds plain pixels).

  Returns:
    float32, like images.
  """
  if not data.mean:
    return images
  return (images - jnp.asarray(data.mean)) / jnp.asarray(data.std)


def augmented_views(
  batch: dict[str, Any], config: Config
) -> tuple[jax.Array, ...]:
  """Returns the views that are trained on, before `network_input`.

  Args:
    batch: of the pipeline: crops [b, side, side, channels] in 'views', 'id' and
      'epoch' int32 [b].
    config: seed and augment are used.

  Returns:
    float32 [b, side, side, channels] in [0, 1], one a crop.
  """
  return tuple(
    augment.augment_view(
      images,
      view=i,
      ids=batch['id'],
      epochs=batch['epoch'],
      seed=config.seed,
      config=config.augment,
    )
    for i, images in enumerate(batch['views'])
  )


def _raw_views(batch: dict[str, Any]) -> tuple[dict[str, jax.Array], ...]:
  return tuple(
    {
      'images': images,
      'id': batch['id'],
      'epoch': batch['epoch'],
      'view': jnp.full_like(batch['id'], i),
    }
    for i, images in enumerate(batch['views'])
  )


def _render(rows: dict[str, jax.Array], *, config: Config) -> jax.Array:
  images = augment.augment_view(
    rows['images'],
    view=rows['view'],
    ids=rows['id'],
    epochs=rows['epoch'],
    seed=config.seed,
    config=config.augment,
  )
  return network_input(images, config.data)


def _places(batch: dict[str, Any], *, config: Config) -> tuple[jax.Array, ...]:
  """Of each view [b, 5]: the box of its crop, and 1 where it is mirrored."""
  places = []
  for view, box in enumerate(batch['boxes']):
    mirrored = augment.mirrored(
      view=view,
      ids=batch['id'],
      epochs=batch['epoch'],
      seed=config.seed,
      config=config.augment,
    )
    columns = [box.astype(jnp.float32), mirrored[:, None].astype(jnp.float32)]
    places.append(jnp.concatenate(columns, axis=1))
  return tuple(places)


def _check(config: Config, channels: int) -> None:
  c, data = config.augment, config.data
  if c.local_crops and c.local_size >= data.image_size:
    raise Error(
      f'local crops of {c.local_size} pixels are not smaller than the '
      f'{data.image_size} of the images: set augment.local_size'
    )
  for field in ('mean', 'std'):
    if len(data[field]) not in (0, channels):
      raise Error(
        f'data.{field} has {len(data[field])} values, the images have '
        f'{channels} channels'
      )
  if len(data.mean) != len(data.std):
    raise Error('data.mean and data.std go together: give both or neither')
  if np.any(np.asarray(data.std) == 0):
    raise Error('data.std has a zero')


def _titles(config: Config) -> tuple[str, ...]:
  return tuple(
    f'view {i + 1}' for i in range(len(config.augment.blur))
  ) + tuple(f'local crop {i + 1}' for i in range(config.augment.local_crops))


def _caption(config: Config, channels: int) -> tuple[str, ...]:
  """The parameters of the augmentation, in the order of its stages."""
  c = config.augment
  skipped = augment.skipped_operations(c, channels)
  jitter = ', '.join(
    f'{name} {c.strength * c[name]:.2g}'
    for name in ('brightness', 'contrast', 'saturation', 'hue')
    if c[name] and name not in skipped
  )
  descriptions = {
    'flip': _percent(c.flip),
    'jitter': f'{_percent(c.jitter)} ({jitter}; as in {c.jitter_form})',
    'grayscale': _percent(c.grayscale),
    'blur': f'{_percent(c.blur)} (sigma {_range(c.blur_sigma)} pixels)',
    'solarize': _percent(c.solarize),
    'channel_drop': _percent(c.channel_drop),
  }
  lines = [
    f'views of {config.data.image_size} pixels: crops of '
    f'{_range(c.crop_scale)} of the area, width / height '
    f'{_range(c.crop_ratio)}, by the rule of {c.crop_rule}',
  ]
  if then := [
    f'{name} {descriptions[name]}'
    for name in (*c.stages, 'channel_drop')
    if name not in skipped and np.any(np.asarray(c[name]) > 0)
  ]:
    lines.append(f'then, with probability: {", ".join(then)}')
  if c.local_crops:
    lines.append(
      f'local crops of {c.local_size} pixels: {_range(c.local_scale)} of the '
      f'area, blur {_percent(c.local_blur)}, solarize '
      f'{_percent(c.local_solarize)}'
    )
  if skipped:
    lines.append(
      f'left out for images of {channels} channels: {", ".join(skipped)}'
    )
  if channels not in (1, 3):
    drawn = 'three are' if channels > 3 else 'is'
    lines.append(
      f'each channel has its own brightness and contrast; the first {drawn} '
      'drawn'
    )
  return tuple(lines)


def _percent(chances: Any) -> str:
  """Returns '50 %', or '100 % and 10 %' of two views that differ."""
  unique = dict.fromkeys(np.atleast_1d(chances).tolist())
  return ' and '.join(f'{100 * chance:g} %' for chance in unique)


def _range(pair: Sequence[float]) -> str:
  return f'{pair[0]:.3g} to {pair[1]:.3g}'
