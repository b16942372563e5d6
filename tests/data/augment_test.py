"""What is drawn, for whom, and how often."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import scipy.ndimage
from jax.sharding import PartitionSpec as P
from PIL import Image
from skimage import data as photographs

from contrastive_jax import config as config_lib
from contrastive_jax import keys
from contrastive_jax.data import augment

# Between compilations for other shapes; the hue's division enlarges it.
ROUNDING = 1e-5
OPERATIONS = {
  'flip': 0.0,
  'jitter': 0.0,
  'grayscale': 0.0,
  'blur': (0.0, 0.0),
  'solarize': (0.0, 0.0),
}


def _config(**fields):
  """The default config with these fields."""
  config = config_lib.base().augment
  config.update(fields)
  return config


def _only(**fields):
  """Nothing but these fields."""
  return _config(**{**OPERATIONS, **fields})


def _photo_crops(count: int) -> np.ndarray:
  """Crops of a photograph: uint8 [count, 24, 20, 3]."""
  photo = np.asarray(Image.fromarray(photographs.astronaut()).resize((96, 96)))
  corners = np.random.default_rng(0).integers(0, 72, (count, 2))
  return np.stack([photo[y : y + 24, x : x + 20] for y, x in corners])


@functools.cache
def _draw_fn(config, view):
  def draw(images, ids, epochs, seed):
    return augment.augment_view(
      images, view=view, ids=ids, epochs=epochs, seed=seed, config=config
    )

  return jax.jit(draw)


def _views(images, config, *, ids=None, epoch=4, seed=0, view=0):
  count = len(images)
  ids = np.arange(count) if ids is None else ids
  draw = _draw_fn(ml_collections.FrozenConfigDict(config), view)
  epochs = np.full(count, epoch, np.int32)
  return np.asarray(draw(images, np.asarray(ids, np.int32), epochs, seed))


def _unit(images) -> np.ndarray:
  return images.astype(np.float32) / np.float32(255)


def _changed(views, images) -> np.ndarray:
  """Which images are others than before, up to the rounding of / 255."""
  return (np.abs(views - _unit(images)) > 1e-6).any((1, 2, 3))


def test_a_config_of_zeros_is_a_division_by_255():
  images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  for config in (_only(), _only(jitter=1.0, strength=0.0)):
    # One unit in the last place: compilers multiply by 1 / 255 instead.
    np.testing.assert_array_max_ulp(_views(images, config), _unit(images), 1)


def test_a_view_depends_on_seed_epoch_id_and_view_only():
  images, config = _photo_crops(16), _config(solarize=(0.2, 0.2))
  ids = 100 + np.arange(16)
  views = _views(images, config, ids=ids)
  assert views.dtype == np.float32
  assert views.min() >= 0 and views.max() <= 1

  shuffled = np.random.default_rng(1).permutation(16)
  np.testing.assert_array_equal(
    _views(images[shuffled], config, ids=ids[shuffled]), views[shuffled]
  )
  alone = _views(images[3:4], config, ids=ids[3:4])
  np.testing.assert_allclose(alone, views[3:4], rtol=0, atol=ROUNDING)

  for other in (
    _views(images, config, ids=ids, seed=1),
    _views(images, config, ids=ids, epoch=5),
    _views(images, config, ids=ids + 1),
    _views(images, config, ids=ids, view=1),
  ):
    # Two draws may both leave an image nearly alone.
    assert (np.abs(other - views).max((1, 2, 3)) > 0.01).sum() >= 12


def test_epoch_and_id_and_view_are_not_interchangeable():
  numbers = list(itertools.product(range(2), repeat=4))
  drawn = [jax.random.key_data(keys.example(*four)) for four in numbers]
  assert len({tuple(np.asarray(key)) for key in drawn}) == len(numbers)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
def test_eight_devices_draw_what_one_draws(mapping):
  images, config = _photo_crops(16), _config(solarize=(0.2, 0.2))
  ids = jnp.arange(16, dtype=jnp.int32)
  epochs = jnp.full((16,), 4, jnp.int32)

  def draw(images, ids, epochs):
    return augment.augment_view(
      images, view=1, ids=ids, epochs=epochs, seed=0, config=config
    )

  if mapping == 'shard_map':
    mesh = jax.make_mesh((8,), ('batch',), (jax.sharding.AxisType.Auto,))
    mapped = jax.jit(
      jax.shard_map(draw, mesh=mesh, in_specs=P('batch'), out_specs=P('batch'))
    )
    views = mapped(images, ids, epochs)
  else:
    split = [x.reshape(8, 2, *x.shape[1:]) for x in (images, ids, epochs)]
    views = jax.pmap(draw, axis_name='batch')(*split).reshape(images.shape)
  expected = _views(images, config, view=1)
  np.testing.assert_allclose(views, expected, rtol=0, atol=ROUNDING)


def test_strict_promotion_and_64_bit_change_nothing():
  images, config = _photo_crops(16), _config(solarize=(0.2, 0.2))
  expected = _views(images, config)
  with jax.numpy_dtype_promotion('strict'), jax.enable_x64(True):
    views = _views(images, config)
  assert views.dtype == np.float32
  np.testing.assert_allclose(views, expected, rtol=0, atol=ROUNDING)


def _uniform(count: int, view: int) -> np.ndarray:
  """The 12 numbers that `_views` draws for each of its images."""
  draw = jax.vmap(
    lambda i: jax.random.uniform(keys.example(0, 4, i, view), (12,))
  )
  return np.asarray(draw(jnp.arange(count)))


def _near(count: int, p: float, frequency: float) -> bool:
  """Within 4.5 standard deviations of a binomial."""
  return abs(frequency - p) <= 4.5 * np.sqrt(p * (1 - p) / count)


def test_flip_grayscale_and_solarize_come_as_often_as_configured():
  count = 4000
  chances = {'flip': 0.5, 'grayscale': 0.2, 'solarize': 0.3}
  config = _only(flip=0.5, grayscale=0.2, solarize=(0.0, 0.3))
  pixels = np.array([[[250, 180, 240], [10, 10, 60]]], np.uint8)
  views = _views(np.tile(pixels, (count, 1, 1, 1)), config, view=1)

  # Each of the eight outcomes, by definition.
  happened = np.full((count, 3), -1)
  for outcome in itertools.product((0, 1), repeat=3):
    flipped, gray, inverted = outcome
    image = pixels / 255
    image = image[:, ::-1] if flipped else image
    if gray:
      image = np.repeat(image @ [[0.299], [0.587], [0.114]], 3, axis=-1)
    image = np.where(image >= 0.5, 1 - image, image) if inverted else image
    happened[np.abs(views - image).max((1, 2, 3)) < 1e-5] = outcome
  assert happened.min() >= 0, 'an outcome that none of the operations gives'
  # The places of the draws are a format: a resumed run continues with them.
  unit = _uniform(count, view=1)[:, [0, 8, 11]]
  np.testing.assert_array_equal(happened, unit < list(chances.values()))
  for column, chance in zip(happened.T, chances.values(), strict=True):
    assert _near(count, chance, column.mean())
  # And independently of each other.
  for a, b in itertools.combinations(range(3), 2):
    assert abs(np.corrcoef(happened[:, a], happened[:, b])[0, 1]) < 0.07


def test_stages_come_in_the_order_of_the_papers():
  images = _photo_crops(16)
  amounts = {'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0}
  views = _views(images, _only(jitter=1.0, hue=0.3, grayscale=1.0, **amounts))
  np.testing.assert_array_equal(views[..., 0], views[..., 1])
  gray = _unit(images) @ np.float32([0.299, 0.587, 0.114])
  # Turned before it became gray: afterward the hue would do nothing.
  assert (np.abs(views[..., 0] - gray).max((1, 2)) > 0.05).sum() >= 12

  config = _only(blur=(1.0, 1.0), blur_sigma=(1.5, 1.5), solarize=(1.0, 1.0))
  blurred = scipy.ndimage.gaussian_filter(
    _unit(images), (0, 1.5, 1.5, 0), mode='constant', radius=(0, 1, 1, 0)
  )
  inverted = np.where(blurred >= 0.5, 1 - blurred, blurred)
  np.testing.assert_allclose(_views(images, config), inverted, atol=1e-6)


def test_stages_come_in_another_order_if_configured():
  images = _photo_crops(16)
  amounts = {'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0}
  config = _only(
    jitter=1.0,
    hue=0.3,
    grayscale=1.0,
    solarize=(1.0, 1.0),
    blur=(1.0, 1.0),
    blur_sigma=(1.5, 1.5),
    stages=('grayscale', 'solarize', 'blur', 'jitter', 'flip'),
    **amounts,
  )
  gray = _unit(images) @ np.float32([0.299, 0.587, 0.114])
  inverted = np.where(gray >= 0.5, 1 - gray, gray)
  blurred = scipy.ndimage.gaussian_filter(
    inverted, (0, 1.5, 1.5), mode='constant', radius=(0, 1, 1)
  )
  # What is gray has no hue to turn.
  for channel in np.moveaxis(_views(images, config), -1, 0):
    np.testing.assert_allclose(channel, blurred, atol=1e-5)


def test_the_order_does_not_change_what_is_drawn():
  # The flip commutes with all the others, but the sums' order is another.
  images, fields = _photo_crops(16), {'solarize': (0.0, 0.0)}
  last = ('jitter', 'grayscale', 'blur', 'solarize', 'flip')
  first = _views(images, _config(**fields))
  np.testing.assert_allclose(
    _views(images, _config(stages=last, **fields)), first, atol=ROUNDING
  )


def test_local_crops_have_their_own_blur_and_solarize():
  images = np.full((2000, 4, 4, 1), 200, np.uint8)
  config = _only(
    local_crops=2, local_blur=0.3, local_solarize=0.5, blur_sigma=(1.0, 2.0)
  )
  drawn = []
  for view in (2, 3):
    views = _views(images, config, view=view)[..., 0]
    # Blur darkens the border only, and solarize takes 200 to 55.
    blurred = np.abs(views[:, 0, 0] - views[:, 1, 1]) > 1e-6
    unit = _uniform(len(images), view)
    np.testing.assert_array_equal(blurred, unit[:, 10] < 0.3)
    np.testing.assert_array_equal(views[:, 1, 1] < 0.5, unit[:, 11] < 0.5)
    drawn.append(blurred)
  assert abs(np.corrcoef(*drawn)[0, 1]) < 0.1
  assert not _changed(_views(images, config, view=1), images).any()


def test_brightness_comes_as_often_and_as_strong_as_configured():
  count = 4000
  images = np.full((count, 2, 2, 1), 100, np.uint8)
  config = _only(jitter=0.8, strength=0.5, brightness=0.8, contrast=0.0)
  views = _views(images, config)
  changed = _changed(views, images)
  assert _near(count, 0.8, changed.mean())
  factors = views[changed, 0, 0, 0] * 255 / 100
  assert 0.6 <= factors.min() < 0.605 and 1.395 < factors.max() <= 1.4
  quartiles = np.quantile(factors, (0.25, 0.5, 0.75))
  np.testing.assert_allclose(quartiles, (0.8, 1.0, 1.2), atol=0.03)


def test_an_amount_above_one_starts_at_zero():
  images = np.full((4000, 2, 2, 1), 80, np.uint8)
  config = _only(jitter=1.0, brightness=1.5, contrast=0.0)
  factors = _views(images, config)[:, 0, 0, 0] * 255 / 80
  assert 0 <= factors.min() < 0.01 and 2.49 < factors.max() <= 2.5001


def test_hue_turns_both_ways_as_far_as_configured():
  red = np.tile(np.array([200, 0, 0], np.uint8), (4000, 2, 2, 1))
  amounts = {'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0}
  views = _views(red, _only(jitter=1.0, hue=0.1, **amounts))[:, 0, 0] * 255
  # Red turned by d < 1/6 has green 6 d x 200; turned back, blue.
  turns = (views[:, 1] - views[:, 2]) / 1200
  np.testing.assert_allclose(views[:, 0], 200, rtol=1e-5)
  assert -0.1001 <= turns.min() < -0.099 and 0.099 < turns.max() <= 0.1001
  assert abs(turns.mean()) < 0.005


def test_each_example_has_its_own_blur_and_224_pixels_have_23_taps():
  images = np.zeros((64, 21, 21, 1), np.uint8)
  images[:, 10, 10] = 255
  views = _views(images, _only(blur=(0.0, 1.0)), view=1)[..., 0]
  ratio = np.maximum(views[:, 10, 11] / views[:, 10, 10], 1e-30)
  sigma = np.sqrt(-0.5 / np.log(ratio))
  assert 0.08 < sigma.min() < 0.4 and 1.8 < sigma.max() < 2.01
  assert len(np.unique(sigma.round(3))) > 50

  image = np.zeros((1, 224, 224, 1), np.uint8)
  image[:, 112, 112] = 255
  view = _views(image, _only(blur=(1.0, 0.0), blur_sigma=(2.0, 2.01)))
  rows, columns = np.nonzero(view[0, ..., 0])
  assert (
    (rows.min(), rows.max()) == (columns.min(), columns.max()) == (101, 123)
  )


def test_blur_comes_as_often_as_configured_in_its_view():
  images = np.full((2000, 4, 4, 1), 200, np.uint8)
  config = _only(blur=(0.3, 0.0), blur_sigma=(1.0, 2.0), solarize=(0.5, 0.0))
  views = _views(images, config)[..., 0]
  # Blur darkens the border only, and solarize takes 200 to 55.
  blurred = np.abs(views[:, 0, 0] - views[:, 1, 1]) > 1e-6
  solarized = views[:, 1, 1] < 0.5
  assert _near(2000, 0.3, blurred.mean())
  assert _near(2000, 0.5, solarized.mean())
  assert abs(np.corrcoef(blurred, solarized)[0, 1]) < 0.1
  assert not _changed(_views(images, config, view=1), images).any()


@pytest.mark.parametrize('channels, orders', [(3, 24), (1, 2)])
def test_every_order_of_the_jitter_is_equally_likely(channels, orders):
  count = 4800
  amounts = augment._jitter_amounts(_config(), channels)
  assert len(amounts) == (4 if channels == 3 else 2)
  unit = np.random.default_rng(0).uniform(size=(count, 6)).astype(np.float32)
  draws = jax.vmap(lambda numbers: augment._jitter_draw(numbers, amounts))(unit)
  rows = np.asarray(draws['order'])
  if channels == 3:
    rows = np.column_stack([rows, draws['hue_place']])
  _, counts = np.unique(rows, axis=0, return_counts=True)
  assert len(counts) == orders
  chi_squared = np.sum((counts - count / orders) ** 2 / (count / orders))
  assert chi_squared < (55 if channels == 3 else 15)  # p of about 2e-4, 1e-4


@pytest.mark.parametrize('channels', [1, 2, 4, 13])
def test_other_channels_leave_color_out_and_say_so(channels):
  config = _config(solarize=(0.2, 0.2))
  images = np.random.default_rng(0).integers(
    0, 256, (4, 12, 10, channels), np.uint8
  )
  views = _views(images, config)
  assert views.shape == images.shape
  assert np.isfinite(views).all() and views.min() >= 0 and views.max() <= 1
  assert np.abs(views - images / 255).max() > 0.05
  skipped = augment.skipped_operations(config, channels)
  colors = ('saturation', 'hue', 'grayscale')
  assert skipped == colors + (() if channels == 1 else ('solarize',))
  # What is left out changes nothing; what stays is drawn as before.
  config.update(saturation=0.0, hue=0.0, grayscale=0.0)
  if channels > 1:
    config.update(solarize=(0.0, 0.0))
  np.testing.assert_array_equal(_views(images, config), views)


@pytest.mark.parametrize('form', ['torchvision', 'simclr', 'byol'])
def test_each_of_other_channels_has_its_own_brightness_and_contrast(form):
  config = _only(jitter=1.0, brightness=0.4, jitter_form=form)
  images = np.full((16, 6, 6, 5), 100, np.uint8)
  views = _views(images, config)
  factors = views[:, 0, 0] - views[:, 0, 0].mean(-1, keepdims=True)
  assert np.all(np.ptp(views, axis=(1, 2)) == 0)  # the same in all of a channel
  assert np.all(np.ptp(factors, axis=-1) > 0.01)
  config = _only(jitter=1.0, contrast=0.4, jitter_form=form)
  ramp = np.linspace(50, 100, 6, dtype=np.uint8)
  images = np.broadcast_to(ramp[None, :, None, None], (16, 6, 6, 5))
  slopes = np.ptp(_views(images, config), axis=(1, 2))
  assert np.all(np.ptp(slopes, axis=-1) > 0.01)


@pytest.mark.parametrize('channels', [2, 3, 5])
def test_a_dropped_channel_is_zero_and_the_others_are_as_they_were(channels):
  images = np.full((400, 2, 2, channels), 100, np.uint8)
  views = _views(images, _only(channel_drop=0.5))
  dropped = (views == 0).all((1, 2))
  assert np.all((views == 0) == dropped[:, None, None])
  assert set(dropped.sum(-1)) == {0, 1}
  assert abs(dropped.any(-1).mean() - 0.5) < 0.1
  assert np.all(dropped.sum(0) > 0.6 * 200 / channels)
  np.testing.assert_allclose(views[views > 0], 100 / 255, rtol=1e-6)
  # Of a gray image nothing would be left.
  assert _views(images[..., :1], _only(channel_drop=1.0)).min() > 0
  assert augment.skipped_operations(_only(channel_drop=1.0), 1) == (
    'channel_drop',
  )


def test_pixels_of_more_than_8_bits_are_augmented_as_they_are():
  images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
  config = _config()
  deep = _views(images.astype(np.float32) / np.float32(255), config)
  np.testing.assert_allclose(deep, _views(images, config), atol=1e-6)
  small = np.full((2, 8, 8, 3), 1e-4, np.float32)  # nothing in 8 bits
  np.testing.assert_array_equal(_views(small, _only()), small)


def test_only_what_is_configured_is_said_to_be_left_out():
  assert augment.skipped_operations(_config(), 3) == ()
  assert augment.skipped_operations(_config(jitter=0.0), 1) == ('grayscale',)
  assert augment.skipped_operations(
    _config(grayscale=0.0, saturation=0.0), 13
  ) == ('hue',)
  assert augment.skipped_operations(_only(), 1) == ()


@pytest.mark.parametrize(
  'view, fields, dtype, message',
  [
    (2, {}, np.uint8, 'no view 2: .* 2 global views and 0 local crops'),
    (5, {'local_crops': 3}, np.uint8, 'no view 5: .* and 3 local crops'),
    (-1, {'local_crops': 3}, np.uint8, 'no view -1'),
    (1, {'solarize': (0.0,)}, np.uint8, 'for 2 views, augment.solarize for 1'),
    (0, {'blur_sigma': (0.0, 2.0)}, np.uint8, 'starts at 0.0 pixels'),
    (
      2,
      {'local_crops': 1, 'blur': (0.0, 0.0), 'blur_sigma': (0.0, 2.0)},
      np.uint8,
      'starts at 0.0 pixels',
    ),
    (0, {}, np.int32, 'images are int32, but have to be uint8 or float32'),
  ],
)
def test_wrong_input_is_one_sentence(view, fields, dtype, message):
  images = np.zeros((2, 8, 8, 3), dtype)
  with pytest.raises(ValueError, match=message) as error:
    _views(images, _config(**fields), view=view)
  assert not re.search(r'\. [A-Z]', str(error.value))
