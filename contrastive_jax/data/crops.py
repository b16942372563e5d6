"""Which part of an image a view shows, and its size: TensorFlow, on the host.

A crop is drawn by one of three rules; with the same scale and ratio they are
three distributions. Of a square image, scale (0.08, 1), ratio (3/4, 4/3), the
mean share of the area is 0.48 by torchvision's rule, 0.40 by TensorFlow's and
0.53 by BYOL's; of one of 200 x 600 pixels 0.22, 0.20 and 0.39.

The crop is cut out, then resized: pixels outside of it count nothing. Centers
of pixels lie at halves. Without antialiasing a pixel of the result is
interpolated between its neighbors, as in the official SimCLR and BYOL; with it,
it is a mean over all that it covers, as in PIL and so in the codes on
torchvision.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import PIL.Image

from contrastive_jax.data.decode import clipped, tf

INTERPOLATIONS = ('bicubic', 'bilinear')
_MAX_VIEWS = 256
# Torchvision draws a box until it lies within the image, this often at most.
_ATTEMPTS = 10
# Channels of which Pillow makes images.
_PILLOW = (1, 3)


def draws(seed: int, view: int, example_id, epoch) -> tf.Tensor:
  """Returns uniform numbers that depend on the four arguments only.

  Args:
    seed: Python int, 0 <= seed < 2**55.
    view: Python int.
    example_id: int32 [].
    epoch: int32 [].

  Returns:
    float32 [22] in [0, 1): as many as `random_box` takes.
  """
  high = tf.bitwise.left_shift(tf.cast(epoch, tf.int64), np.int64(32))
  low = tf.constant(seed * _MAX_VIEWS + view, tf.int64)
  key = tf.stack([low, high + tf.cast(example_id, tf.int64)])
  return tf.random.stateless_uniform([2 + 2 * _ATTEMPTS], key)


def random_box(uniform, shape, scale, ratio, rule: str = 'byol') -> tf.Tensor:
  """Returns a random crop box, or a batch of them.

  Args:
    uniform: float32 [..., 22] in [0, 1).
    shape: int32 [2], height and width of the image, pixels.
    scale: range of the share of the image's area.
    ratio: range of width / height.
    rule: of `RULES`.

  Returns:
    int32 [..., 4]: top, left, height, width, pixels.

  Reference: BYOL (2006.07733), appendix B; torchvision's
    RandomResizedCrop.get_params; TensorFlow's
    sample_distorted_bounding_box_op.cc, which SimCLR calls.
  """
  limits = tf.cast(shape, tf.float32)
  sides, centered = RULES[rule](uniform[..., 2:], limits, scale, ratio)
  free = limits - sides
  # TensorFlow leaves the last place out, where there is another.
  places = tf.maximum(free, 1.0) if rule == 'tensorflow' else free + 1
  # A uniform number just below 1 may round up to the sum: hence the minimum.
  corner = tf.minimum(tf.floor(uniform[..., :2] * places), free)
  corner = tf.where(centered[..., None], tf.floor(free / 2), corner)
  return tf.cast(tf.concat([corner, sides], axis=-1), tf.int32)


def _byol_sides(uniform, limits, scale, ratio):
  """One draw, clipped to the image."""
  sides = _sides(uniform[..., :2], limits, scale, ratio)
  sides = tf.clip_by_value(sides, 1.0, limits)
  return sides, tf.zeros(sides.shape[:-1], tf.bool)


def _torchvision_sides(uniform, limits, scale, ratio):
  """Draws until the box lies within the image; at last, a central crop."""
  pairs = [*uniform.shape[:-1], _ATTEMPTS, 2]
  sides = _sides(tf.reshape(uniform, pairs), limits, scale, ratio)
  fits = tf.reduce_all((sides >= 1) & (sides <= limits), axis=-1)
  first = tf.argmax(tf.cast(fits, tf.int32), axis=-1)
  sides = tf.gather(sides, first, axis=-2, batch_dims=fits.shape.rank - 1)
  none = tf.logical_not(tf.reduce_any(fits, axis=-1))
  # The largest part of the image whose ratio is in the range.
  height, width = limits[0], limits[1]
  largest = tf.stack(
    [
      tf.minimum(height, tf.round(width / ratio[0])),
      tf.minimum(width, tf.round(height * ratio[1])),
    ]
  )
  return tf.where(none[..., None], largest, sides), none


def _tensorflow_sides(uniform, limits, scale, ratio):
  """A ratio, then a height of those that fit to it; at last, the image.

  The height is uniform, so that small areas are more frequent than large ones.
  The ratio is uniform, too, not its logarithm.
  """
  height, width = limits[0], limits[1]
  ratio = ratio[0] + uniform[..., 0] * (ratio[1] - ratio[0])
  least, most = (
    tf.round(tf.sqrt(share * height * width / ratio)) for share in scale
  )
  most = tf.minimum(most, tf.floor((width + 0.4999) / ratio))
  most = tf.minimum(most, height)
  least = tf.maximum(least, 1.0)
  none = least > most
  h = least + tf.floor(uniform[..., 1] * (most - least + 1))
  h = tf.minimum(h, most)
  sides = tf.stack([h, tf.maximum(tf.round(h * ratio), 1.0)], axis=-1)
  return tf.where(none[..., None], limits, sides), none


# What a crop is drawn by, see `random_box`.
RULES = {
  'torchvision': _torchvision_sides,
  'tensorflow': _tensorflow_sides,
  'byol': _byol_sides,
}


def _sides(uniform, limits, scale, ratio):
  """Height and width, [..., 2]: uniform in the area and in the log ratio."""
  share = scale[0] + uniform[..., :1] * (scale[1] - scale[0])
  low, high = math.log(ratio[0]), math.log(ratio[1])
  half = 0.5 * (low + uniform[..., 1:2] * (high - low))
  side = tf.sqrt(limits[0] * limits[1] * share)
  return tf.round(side * tf.exp(half * tf.constant([-1.0, 1.0])))


def central_box(shape, size: int, crop: float) -> tf.Tensor:
  """Returns the central square of `crop` times the shorter side.

  An image that is size x size already is taken whole.

  Args:
    shape: int32 [2], height and width of the image, pixels.
    size: side of the result, pixels.
    crop: share of the shorter side, in (0, 1].

  Returns:
    int32 [4]: top, left, height, width, pixels.
  """
  shorter = tf.minimum(shape[0], shape[1])
  inner = tf.round(crop * tf.cast(shorter, tf.float32))
  inner = tf.maximum(tf.cast(inner, tf.int32), 1)
  whole = tf.logical_and(tf.equal(shape[0], size), tf.equal(shape[1], size))
  inner = tf.where(whole, shorter, inner)
  return tf.stack(
    [(shape[0] - inner) // 2, (shape[1] - inner) // 2, inner, inner]
  )


def resize(
  image,
  boxes,
  sizes: Sequence[int],
  interpolation: str,
  antialias: bool = False,
) -> list[tf.Tensor]:
  """Crops and resizes one image, once or more.

  Args:
    image: [height, width, channels], uint8 or float32 in [0, 1].
    boxes: one int32 [4] a crop: top, left, height, width, pixels.
    sizes: side of each result, pixels.
    interpolation: 'bicubic' or 'bilinear'.
    antialias: see the module.

  Returns:
    One of the image's type, [size, size, channels], a crop.
  """
  channels = image.shape[-1]
  if not antialias or image.dtype != tf.uint8 or channels not in _PILLOW:
    return [
      _by_tensorflow(image, box, size, interpolation, antialias)
      for box, size in zip(boxes, sizes, strict=True)
    ]
  made = tf.numpy_function(
    functools.partial(_by_pillow, sizes, interpolation),
    [image, tf.stack(boxes)],
    [tf.uint8] * len(sizes),
    stateful=False,
  )
  return [
    tf.ensure_shape(view, [size, size, channels])
    # Eagerly, a list of one comes as the one.
    for view, size in zip(tf.nest.flatten(made), sizes, strict=True)
  ]


def _by_pillow(sizes, interpolation, image, boxes):
  """The recipes' own antialiasing, to the bit; TensorFlow's takes longer."""
  resample = getattr(PIL.Image.Resampling, interpolation.upper())
  whole = PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
  made = []
  for (top, left, height, width), size in zip(boxes, sizes, strict=True):
    # Cut first: of a box alone Pillow would look at pixels around it, too.
    crop = whole.crop((left, top, left + width, top + height))
    view = np.asarray(crop.resize((size, size), resample))
    made.append(view.reshape(size, size, -1))
  return made


def _by_tensorflow(image, box, size, interpolation, antialias):
  crop = image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
  # On uint8 these kernels take almost twice as long as on floats.
  crop = tf.cast(crop, tf.float32)[None]
  if antialias:
    scale = size / tf.cast(box[2:], tf.float32)
    resized = tf.raw_ops.ScaleAndTranslate(
      images=crop,
      size=[size, size],
      scale=scale,
      translation=tf.zeros(2),
      kernel_type={'bicubic': 'keyscubic', 'bilinear': 'triangle'}[
        interpolation
      ],
      antialias=True,
    )
  else:
    resize = {
      'bicubic': tf.raw_ops.ResizeBicubic,
      'bilinear': tf.raw_ops.ResizeBilinear,
    }[interpolation]
    resized = resize(images=crop, size=[size, size], half_pixel_centers=True)
  return clipped(resized[0], image.dtype)


def resize_many(
  images, boxes, size: int, interpolation: str, antialias: bool = False
) -> tf.Tensor:
  """Crops and resizes a batch of small images, as two matrix products.

  The same result as `resize` up to rounding, at a tenth of the cost for
  28 x 28 pixels; the cost grows with the third power of the side.

  Args:
    images: [b, height, width, channels], uint8 or float32 in [0, 1].
    boxes: int32 [b, 4]: top, left, height, width, pixels.
    size: side of the result, pixels.
    interpolation: 'bicubic' or 'bilinear'.
    antialias: see the module.

  Returns:
    Of the images' type, [b, size, size, channels].
  """
  shape = tf.shape(images)
  how = (size, interpolation, antialias)
  rows = _weights(boxes[:, 0], boxes[:, 2], shape[1], *how)
  columns = _weights(boxes[:, 1], boxes[:, 3], shape[2], *how)
  x = tf.einsum('bsh,bhwc->bswc', rows, tf.cast(images, tf.float32))
  return clipped(tf.einsum('btw,bswc->bstc', columns, x), images.dtype)


def _weights(start, length, n, size, interpolation, antialias) -> tf.Tensor:
  """Returns [b, size, n]: how much pixel j counts in output pixel i.

  Pixels outside the crop count nothing, and the rest is scaled to sum to
  one, as TensorFlow's resize does at the border of an image.
  """
  start = tf.cast(start, tf.float32)[:, None, None]
  length = tf.cast(length, tf.float32)[:, None, None]
  i = tf.range(size, dtype=tf.float32)[None, :, None]
  j = tf.range(tf.cast(n, tf.float32))[None, None, :]
  d = tf.abs(start + (i + 0.5) * length / size - 0.5 - j)
  if antialias:  # the kernel grows with the pixels of the result
    d /= tf.maximum(length / size, 1.0)
  if interpolation == 'bilinear':
    w = tf.maximum(1.0 - d, 0.0)
  else:  # Keys' cubic, a = -0.5
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    w = tf.where(d < 1.0, near, tf.where(d < 2.0, far, 0.0))
  w = tf.where((j >= start) & (j < start + length), w, 0.0)
  return w / tf.reduce_sum(w, axis=-1, keepdims=True)
