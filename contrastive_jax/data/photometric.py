"""Photometric operations on one image: float32 [H, W, C] in [0, 1].

Nothing here is random (`augment.py` draws). Color is adjusted as torchvision's
ColorJitter does it, or as the official SimCLR and BYOL do (`FORMS`); the blur
is that of the latter two.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from contrastive_jax.config import Error

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in PIL and torchvision


def flip(image: jax.Array, flipped: jax.Array | bool) -> jax.Array:
  """Mirrors the image left to right where `flipped` is true.

  Args:
    image: [H, W, C].
    flipped: scalar bool.

  Returns:
    [H, W, C].
  """
  return jnp.where(flipped, image[:, ::-1], image)


def adjust_brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Blends the image with black: clip(factor * image).

  Args:
    image: [H, W, C] in [0, 1].
    factor: scalar or [C], 0 is black and 1 the image itself.

  Returns:
    [H, W, C] in [0, 1].

  Reference: torchvision `adjust_brightness`; SimCLR v2 (2006.10029).
  """
  return _blend(image, _black(image), factor)


def shift_brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Adds `factor` - 1.

  Args:
    image: [H, W, C] in [0, 1].
    factor: scalar or [C], 0 is black and 1 the image itself.

  Returns:
    [H, W, C] in [0, 1].

  Reference: `tf.image.adjust_brightness`; BYOL's augmentations.py (its delta is
    `factor` - 1), where SimCLR v2 and torchvision multiply.
  """
  return jnp.clip(image + (factor - 1), 0.0, 1.0)


def adjust_contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Blends the image with its mean gray.

  Args:
    image: [H, W, C] in [0, 1]. With C = 3 the mean is that of the grayscale
      image; with any other C, each channel has its own.
    factor: scalar or [C], 0 is the mean and 1 the image itself.

  Returns:
    [H, W, C] in [0, 1].

  Reference: torchvision `adjust_contrast`.
  """
  return _blend(image, _mean_gray(image), factor)


def adjust_channel_contrast(
  image: jax.Array, factor: jax.Array | float
) -> jax.Array:
  """Blends each channel with its own mean.

  Args:
    image: [H, W, C] in [0, 1].
    factor: scalar or [C], 0 is the mean color and 1 the image itself.

  Returns:
    [H, W, C] in [0, 1].

  Reference: `tf.image.adjust_contrast`, as SimCLR's data_util.py calls it;
    BYOL's augmentations.py.
  """
  # One by one: a CPU does not vectorize a mean beside an axis of 3.
  channels = [jnp.mean(image[..., i]) for i in range(image.shape[-1])]
  return _blend(image, jnp.stack(channels), factor)


def adjust_saturation(image: jax.Array, factor: jax.Array | float) -> jax.Array:
  """Blends the image with its grayscale version.

  Args:
    image: [H, W, 3] in [0, 1].
    factor: scalar, 0 is grayscale and 1 the image itself.

  Returns:
    [H, W, 3] in [0, 1].

  Raises:
    ValueError: the image does not have 3 channels.

  Reference: torchvision `adjust_saturation`.
  """
  _check_rgb(image, 'saturation')
  return _blend(image, _gray(image), factor)


def adjust_hsv_saturation(
  image: jax.Array, factor: jax.Array | float
) -> jax.Array:
  """Multiplies the saturation of HSV; hue and value stay.

  Args:
    image: [H, W, 3] in [0, 1].
    factor: scalar, 0 is the value alone and 1 the image itself.

  Returns:
    [H, W, 3] in [0, 1].

  Raises:
    ValueError: the image does not have 3 channels.

  Reference: `tf.image.adjust_saturation`, as SimCLR's data_util.py calls it;
    BYOL's augmentations.py.
  """
  _check_rgb(image, 'saturation')
  # Not a maximum over an axis of 3, which a CPU does not vectorize.
  red, green, blue = (image[..., i : i + 1] for i in range(3))
  value = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
  # The saturation is chroma / value, and 1 at most. To multiply it is to blend
  # with the value, so HSV itself is not needed.
  most = value / jnp.where(chroma > 0, chroma, 1.0)
  factor = jnp.where(chroma > 0, jnp.minimum(factor, most), 1.0)
  return _blend(image, value, factor)


def adjust_hue(image: jax.Array, delta: jax.Array | float) -> jax.Array:
  """Turns the hue of HSV by `delta`; value and saturation stay.

  Args:
    image: [H, W, 3] in [0, 1].
    delta: scalar in turns; 1/3 takes red to green.

  Returns:
    [H, W, 3] in [0, 1].

  Raises:
    ValueError: the image does not have 3 channels.

  Reference: torchvision `adjust_hue`.
  """
  _check_rgb(image, 'hue')
  red, green, blue = image[..., 0], image[..., 1], image[..., 2]
  value = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
  divisor = jnp.where(chroma > 0, chroma, 1.0)
  hue = jnp.where(
    value == red,
    (green - blue) / divisor,
    jnp.where(
      value == green,
      2 + (blue - red) / divisor,
      4 + (red - green) / divisor,
    ),
  )
  # In sixths of a turn. A floor, as a floating-point `mod` does not vectorize.
  turned = hue / 6 + delta
  turned = 6 * (turned - jnp.floor(turned))
  # How much of the chroma each channel keeps: trapezoids around its own hue.
  share = jnp.stack(
    [
      jnp.abs(turned - 3) - 1,
      2 - jnp.abs(turned - 2),
      2 - jnp.abs(turned - 4),
    ],
    axis=-1,
  )
  share = jnp.clip(share, 0.0, 1.0)
  return jnp.clip(value[..., None] - chroma[..., None] * (1 - share), 0.0, 1.0)


# What brightness, contrast and saturation mean: in torchvision, and with it in
# all codes on PyTorch; in google-research/simclr (its v2); in BYOL.
FORMS: Mapping[str, Mapping[str, Callable]] = {
  'torchvision': {
    'brightness': adjust_brightness,
    'contrast': adjust_contrast,
    'saturation': adjust_saturation,
  },
  'simclr': {
    'brightness': adjust_brightness,
    'contrast': adjust_channel_contrast,
    'saturation': adjust_hsv_saturation,
  },
  'byol': {
    'brightness': shift_brightness,
    'contrast': adjust_channel_contrast,
    'saturation': adjust_hsv_saturation,
  },
}


def color_jitter(
  image: jax.Array,
  names: tuple[str, ...],
  *,
  form: str = 'torchvision',
  order: jax.Array,
  factors: jax.Array,
  hue_place: jax.Array | int = 0,
  hue_delta: jax.Array | float = 0.0,
) -> jax.Array:
  """Applies the adjustments one after the other, in an order that is data.

  A choice of operation per example computes every branch for all of them. But
  brightness, contrast and saturation are cheap, and a factor of 1 is exactly
  the identity. So the hue, which is dear, is computed once: what comes after it
  has factor 1 before it, and the other way round.

  Args:
    image: [H, W, C] in [0, 1].
    names: the adjustments; some of 'brightness', 'contrast', 'saturation' (n
      of them), then perhaps 'hue'.
    form: of `FORMS`, what the n are.
    order: int32 [n], a permutation: which comes first, second, ...
    factors: float32 [n], or [n, C] for each channel its own, in that order.
    hue_place: scalar int32 in [0, n], how many come before the hue.
    hue_delta: scalar in turns.

  Returns:
    [H, W, C] in [0, 1].

  Raises:
    ValueError: saturation or hue of an image that does not have 3 channels.

  Reference: torchvision `ColorJitter`, SimCLR's and BYOL's color_jitter, whose
    orders are random, and which clip after each adjustment.
  """
  for name in ('saturation', 'hue'):
    if name in names:
      _check_rgb(image, name)
  adjustments = [FORMS[form][name] for name in names if name != 'hue']
  if 'hue' not in names:
    return _in_order(image, adjustments, order, factors)
  is_first = jnp.arange(len(adjustments), dtype=jnp.int32) < hue_place
  first = jnp.where(is_first, factors, 1.0)
  second = jnp.where(is_first, 1.0, factors)
  image = _in_order(image, adjustments, order, first)
  image = adjust_hue(image, hue_delta)
  return _in_order(image, adjustments, order, second)


def to_grayscale(image: jax.Array) -> jax.Array:
  """Replaces every channel by 0.299 R + 0.587 G + 0.114 B.

  Args:
    image: [H, W, 3] in [0, 1].

  Returns:
    [H, W, 3], three equal channels.

  Raises:
    ValueError: the image does not have 3 channels.

  Reference: PIL `convert('L')`; torchvision `rgb_to_grayscale`.
  """
  _check_rgb(image, 'grayscale')
  return jnp.broadcast_to(_gray(image), image.shape)


def gaussian_blur(
  image: jax.Array, sigma: jax.Array | float, radius: int
) -> jax.Array:
  """Blurs with a truncated, normalized Gaussian; outside the image is zero.

  Zero padding darkens the border a little, as the official SimCLR and BYOL do
  (`SAME` convolution); PIL-based code repeats the edge instead.

  The blur is two products with a banded matrix, [H, H] and [W, W]: every
  example has its own sigma, and a convolution with a kernel per example is slow
  on every backend.

  Args:
    image: [H, W, C].
    sigma: scalar > 0, in pixels.
    radius: of the kernel, in pixels; it has 2 * radius + 1 taps.

  Returns:
    [H, W, C].

  Reference: SimCLR (2002.05709) appendix A; BYOL (2006.07733) appendix B.
  """
  height, width, _ = image.shape
  # HIGH: the default of a TPU, bfloat16, would be as coarse as uint8.
  image = jnp.einsum(
    'ih,hwc->iwc', _blur_matrix(height, sigma, radius), image, precision='high'
  )
  return jnp.einsum(
    'jw,hwc->hjc', _blur_matrix(width, sigma, radius), image, precision='high'
  )


def solarize(image: jax.Array, threshold: float = 0.5) -> jax.Array:
  """Inverts what is at or above the threshold.

  Args:
    image: [H, W, C] in [0, 1].
    threshold: in [0, 1]; 0.5 is PIL's 128.

  Returns:
    [H, W, C] in [0, 1].

  Reference: BYOL (2006.07733) appendix B; PIL `ImageOps.solarize`.
  """
  return jnp.where(image >= threshold, 1 - image, image)


def _in_order(image, adjustments: list[Callable], order, factors):
  def adjust(image, place):
    choice, factor = place
    adjusted = image
    for index, function in enumerate(adjustments):
      adjusted = jnp.where(choice == index, function(image, factor), adjusted)
    return adjusted, None

  # A scan, as XLA would fuse unrolled steps, and compute each one again for
  # every channel of the next: 3.5 times slower on a CPU.
  return jax.lax.scan(adjust, image, (order, factors))[0]


def _blend(image, target, factor):
  return jnp.clip(factor * image + (1 - factor) * target, 0.0, 1.0)


def _black(image):
  return jnp.zeros_like(image)


def _gray(image):
  """[H, W, 1] of an RGB image; any other image as it is."""
  if image.shape[-1] != 3:
    return image
  return sum(image[..., i : i + 1] * _LUMA[i] for i in range(3))


def _mean_gray(image):
  return jnp.mean(_gray(image), axis=(0, 1))


def _blur_matrix(side: int, sigma, radius: int):
  """[side, side]: row i holds the kernel's weights around pixel i."""
  taps = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
  pixels = jnp.arange(side, dtype=jnp.float32)
  distance = jnp.abs(pixels[:, None] - pixels[None, :])
  weights = jnp.exp(-0.5 * jnp.square(distance / sigma))
  weights = jnp.where(distance <= radius, weights, 0.0)
  return weights / jnp.sum(jnp.exp(-0.5 * jnp.square(taps / sigma)))


def _check_rgb(image, operation: str):
  if image.shape[-1] != 3:
    raise Error(
      f'{operation} needs an image of 3 channels, and this one has '
      f'{image.shape[-1]}.'
    )
