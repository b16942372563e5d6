"""Each operation against PIL, colorsys or SciPy, on photographs."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from skimage import data as photographs
from sklearn.datasets import load_sample_images

from contrastive_jax.data import photometric
from contrastive_jax.data.tensorflow_host import tf

# PIL rounds to uint8 once or twice on the way.
ONE_LEVEL = 1.01 / 255
TWO_LEVELS = 2.01 / 255
FACTORS = (0.0, 0.35, 1.0, 1.7)


def _photos() -> list[np.ndarray]:
  """Four photographs, 60 x 44 pixels: height and width are told apart."""
  china, flower = load_sample_images().images
  photos = (photographs.astronaut(), photographs.chelsea(), china, flower)
  return [
    np.asarray(Image.fromarray(photo).resize((44, 60))) for photo in photos
  ]


PHOTOS = _photos()


def _unit(photo) -> np.ndarray:
  return np.asarray(photo, np.float32) / np.float32(255)


def _max_error(result, expected) -> float:
  assert result.dtype == jnp.float32
  assert result.shape == expected.shape
  return float(np.max(np.abs(np.asarray(result) - expected)))


@pytest.mark.parametrize(
  'adjust, enhancer, tolerance',
  [
    (photometric.adjust_brightness, ImageEnhance.Brightness, ONE_LEVEL),
    (photometric.adjust_contrast, ImageEnhance.Contrast, TWO_LEVELS),
    (photometric.adjust_saturation, ImageEnhance.Color, TWO_LEVELS),
  ],
)
def test_blends_are_those_of_pil(adjust, enhancer, tolerance):
  adjust = jax.jit(adjust)
  for photo, factor in itertools.product(PHOTOS, FACTORS):
    expected = _unit(enhancer(Image.fromarray(photo)).enhance(factor))
    assert _max_error(adjust(_unit(photo), factor), expected) <= tolerance


def test_a_factor_of_one_changes_no_bit():
  for adjust in (
    photometric.adjust_brightness,
    photometric.adjust_contrast,
    photometric.adjust_saturation,
  ):
    photo = _unit(PHOTOS[0])
    np.testing.assert_array_equal(jax.jit(adjust)(photo, 1.0), photo)


@pytest.mark.parametrize('delta', [-0.4, -0.2, 0.0, 0.05, 0.2, 0.5, 1.0])
def test_hue_is_that_of_colorsys(delta):
  adjust = jax.jit(photometric.adjust_hue)

  def turn(red, green, blue):
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    return colorsys.hsv_to_rgb((hue + delta) % 1.0, saturation, value)

  for photo in PHOTOS:
    # Gray, black, white and the pure colors, and a tenth of the pixels.
    photo = photo.copy()
    photo[0, :8] = 255 * np.array(list(itertools.product((0, 1), repeat=3)))
    photo[1, :3] = [[128] * 3, [1, 0, 0], [254, 255, 255]]
    result = np.asarray(adjust(_unit(photo), delta)).reshape(-1, 3)
    pixels = _unit(photo).reshape(-1, 3).astype(np.float64)
    chosen = np.r_[0:64, 64 : len(pixels) : 10]
    expected = np.array([turn(*pixel) for pixel in pixels[chosen]])
    np.testing.assert_allclose(result[chosen], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize('factor', [*FACTORS, 3.0])
def test_the_forms_of_simclr_and_byol_are_tensorflows(factor):
  """The official codes call, or say that they follow, tf.image."""
  simclr, byol = photometric.FORMS['simclr'], photometric.FORMS['byol']
  assert {n: f for n, f in simclr.items() if n != 'brightness'} == {
    n: f for n, f in byol.items() if n != 'brightness'
  }
  for photo in map(_unit, PHOTOS):
    for function, expected in (
      (simclr['brightness'], photo * np.float32(factor)),
      (byol['brightness'], tf.image.adjust_brightness(photo, factor - 1)),
      (simclr['contrast'], tf.image.adjust_contrast(photo, factor)),
      (simclr['saturation'], tf.image.adjust_saturation(photo, factor)),
    ):
      expected = np.clip(expected, 0, 1)  # as both codes do after each
      assert _max_error(jax.jit(function)(photo, factor), expected) <= 5e-6


def test_the_forms_differ():
  photo = _unit(PHOTOS[0])
  for name, factor in (('contrast', 0.2), ('saturation', 1.8)):
    ours, theirs = (
      photometric.FORMS[form][name](photo, factor)
      for form in ('torchvision', 'simclr')
    )
    assert np.abs(ours - theirs).mean() > 0.02


def test_gray_has_a_contrast_in_each_form_and_no_saturation():
  gray = _unit(PHOTOS[0])[..., :1]
  for form in photometric.FORMS.values():
    mean = np.full_like(gray, gray.mean())
    assert _max_error(form['contrast'](gray, 0.0), mean) <= 1e-6
    with pytest.raises(ValueError, match='saturation needs'):
      form['saturation'](gray, 0.5)


def test_grayscale_is_that_of_pil():
  for photo in PHOTOS:
    gray = _unit(Image.fromarray(photo).convert('L'))
    expected = np.repeat(gray[..., None], 3, axis=-1)
    result = jax.jit(photometric.to_grayscale)(_unit(photo))
    assert _max_error(result, expected) <= ONE_LEVEL


def test_solarize_is_that_of_pil():
  for photo in PHOTOS:
    expected = _unit(ImageOps.solarize(Image.fromarray(photo), 128))
    result = jax.jit(photometric.solarize)(_unit(photo))
    assert _max_error(result, expected) <= 1e-6


def test_flip_mirrors_left_to_right():
  photo = _unit(PHOTOS[0])
  flip = jax.jit(photometric.flip)
  mirrored = _unit(ImageOps.mirror(Image.fromarray(PHOTOS[0])))
  np.testing.assert_array_equal(flip(photo, True), mirrored)
  np.testing.assert_array_equal(flip(photo, False), photo)


@pytest.mark.parametrize('radius', [1, 3, 11])
def test_blur_is_that_of_scipy(radius):
  blur = jax.jit(photometric.gaussian_blur, static_argnums=2)
  for photo, sigma in itertools.product(PHOTOS, (0.1, 0.7, 2.0)):
    expected = scipy.ndimage.gaussian_filter(
      _unit(photo),
      (sigma, sigma, 0),
      mode='constant',
      radius=(radius, radius, 0),
    )
    assert _max_error(blur(_unit(photo), sigma, radius), expected) <= 1e-6


def test_blur_is_near_that_of_pil_inside():
  # PIL approximates the Gaussian by boxes, and repeats the edge.
  photo = PHOTOS[0]
  expected = _unit(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(2)))
  blur = jax.jit(photometric.gaussian_blur, static_argnums=2)
  result = blur(_unit(photo), 2.0, 11)
  inside = np.s_[11:-11, 11:-11]
  assert _max_error(result[inside], expected[inside]) <= 4 / 255


@pytest.mark.parametrize('form', photometric.FORMS)
@pytest.mark.parametrize(
  'names',
  [
    ('brightness', 'contrast', 'saturation', 'hue'),
    ('brightness', 'contrast'),
    ('contrast', 'hue'),
    ('saturation',),
    ('hue',),
  ],
)
def test_jitter_is_its_adjustments_in_each_order(names, form):
  amounts = {'brightness': 1.7, 'contrast': 1.6, 'saturation': 1.8, 'hue': 0.15}
  adjust = {**photometric.FORMS[form], 'hue': photometric.adjust_hue}
  adjust = {name: jax.jit(adjust[name]) for name in names}
  photo = _unit(PHOTOS[0])
  blends = [name for name in names if name != 'hue']
  jitter = jax.jit(
    photometric.color_jitter, static_argnums=1, static_argnames='form'
  )
  results = []
  for permutation in itertools.permutations(names):
    in_order = [name for name in permutation if name != 'hue']
    result = jitter(
      photo,
      names,
      form=form,
      order=np.array([blends.index(name) for name in in_order], np.int32),
      factors=np.array([amounts[name] for name in in_order], np.float32),
      hue_place=permutation.index('hue') if 'hue' in names else 0,
      hue_delta=amounts['hue'],
    )
    expected = photo
    for name in permutation:
      expected = adjust[name](expected, amounts[name])
    np.testing.assert_allclose(result, expected, rtol=0, atol=3e-6)
    results.append(np.asarray(result))
  # The orders can be told apart, or the comparison would say nothing. (Hue and
  # the saturation of HSV do not meet.)
  if len(names) == 4 and form == 'torchvision':
    gaps = [np.abs(a - b).max() for a, b in itertools.combinations(results, 2)]
    assert min(gaps) > 1e-3


@pytest.mark.parametrize('channels', [1, 13])
def test_contrast_of_other_channels_is_against_the_mean_of_each(channels):
  image = np.random.default_rng(0).uniform(size=(6, 5, channels))
  image = image.astype(np.float32)
  expected = np.clip(1.5 * image - 0.5 * image.mean((0, 1)), 0, 1)
  result = photometric.adjust_contrast(jnp.asarray(image), 1.5)
  assert _max_error(result, expected) <= 1e-6


def test_color_operations_refuse_other_channels():
  image = jnp.zeros((4, 4, 13))
  with pytest.raises(ValueError, match='hue needs an image of 3 .* has 13'):
    photometric.adjust_hue(image, 0.1)
  with pytest.raises(ValueError, match='saturation'):
    photometric.adjust_saturation(image, 0.1)
  with pytest.raises(ValueError, match='grayscale'):
    photometric.to_grayscale(image)
  with pytest.raises(ValueError, match='saturation'):
    photometric.color_jitter(
      image,
      ('saturation',),
      order=jnp.array([0]),
      factors=jnp.array([1.0]),
    )
