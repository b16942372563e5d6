"""Runs on other than 1 or 3 channels, and on more than 8 bits, end to end."""

import numpy as np
import pytest
import tifffile

from contrastive_jax import train
from contrastive_jax.data import augment, sources
from contrastive_jax.data.split import source_from_arrays
from contrastive_jax.evaluation import encoder
from contrastive_jax.reporting import document, page
from contrastive_jax.reporting import sheet as sheets
from contrastive_jax.training import build
from tests import tiny

_CHANNELS = 5


def _bands(dtype=np.uint16, channels=_CHANNELS):
  """Digits in several bands, of 12 bits."""
  digits = sources.load('digits').train
  images = digits.reader.images.astype(np.float32) / 255
  bands = [np.roll(images, i, 1 + i % 2) / (1 + i) for i in range(channels)]
  white = {np.uint8: 255, np.uint16: 4000, np.float32: 1}[dtype]
  return (np.concatenate(bands, -1) * white).astype(dtype), digits.labels


def _config(source, channels=_CHANNELS):
  config = tiny.get_config(source)
  config.augment.channel_drop = 0.2
  config.data.mean, config.data.std = (0.3,) * channels, (0.2,) * channels
  return config


def test_five_bands_of_12_bits_end_to_end(tmp_path, capsys):
  images, labels = _bands()
  np.savez(tmp_path / 'a.npz', images=images, labels=labels)
  config = _config(f'arrays:{tmp_path / "a.npz"}')
  summary = train.pretrain(config, tmp_path / 'run')
  said = capsys.readouterr().out
  assert '8 x 8 x 5' in said and '4,095 is white' in said
  assert 'left out for images of 5 channels: saturation, hue, grayscale' in said
  assert summary['linear_accuracy'] > 0
  assert set(summary['rows']) >= {'raw pixels', 'trained encoder'}
  resolved = encoder.read_config(tmp_path / 'run')
  assert resolved.data.maximum == 4095  # and so is evaluation's
  encode = encoder.load_encoder(tmp_path / 'run')
  pixels = images[:4].astype(np.float32) / 4095
  assert np.isfinite(encode(pixels)).all()
  with pytest.raises(ValueError, match='uint16 .* this encoder takes float32'):
    encode(images[:4])
  document.write([tmp_path / 'run'], tmp_path / 'report.html')
  text = (tmp_path / 'report.html').read_text()
  assert 'No augmented views' not in text and 'No features' not in text


@pytest.mark.parametrize('channels', [2, 4, 5])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_previews_draw_the_first_channels(channels, dtype):
  images, labels = _bands(dtype, channels)
  source = source_from_arrays(images, labels)
  config = tiny.get_config()
  config.augment.channel_drop = 0.5
  job = build.build(config, source=source)
  views = sheets.sheet(job)
  assert views.views[0].shape == (64, 8, 8, channels)
  assert any('channel_drop 50 %' in line for line in views.caption)
  drawn = 'first three are' if channels > 3 else 'first is'
  assert any(drawn in line for line in views.caption)
  sheets.draw(views, 2).savefig('/dev/null', format='png')
  assert page.thumbnail(views.images[0], 'x').startswith('<img')
  assert page.shown(views.images[0]).shape == (
    (8, 8, 3) if channels > 3 else (8, 8)
  )


def test_white_has_to_fit_to_the_data():
  images, _ = _bands()
  config = tiny.get_config()
  config.data.maximum = 1023.0
  with pytest.raises(
    ValueError, match='is 1023, and the images were made with'
  ):
    build.build(config, source=source_from_arrays(images))
  config.data.source = 'digits'
  with pytest.raises(ValueError, match='has images of 8 bits, whose white is'):
    build.build(config)


def test_mean_and_deviation_are_one_a_channel():
  images, _ = _bands()
  source = source_from_arrays(images)
  with pytest.raises(ValueError, match='data.mean has 4 values, the images ha'):
    build.build(_config('digits', 4), source=source)
  job = build.build(_config('digits'), source=source)
  assert job.run.input_shape == (8, 8, 5)


def test_another_source_is_divided_by_the_white_of_the_run(tmp_path):
  for i in range(4):
    values = np.full((8, 8, 5), 500 + i, np.uint16)
    tifffile.imwrite(
      tmp_path / f'{i}.tif',
      values,
      photometric='minisblack',
      planarconfig='contig',
    )
  spec = f'folder:{tmp_path}'
  assert sources.load(spec).train.maximum == 1023
  train_split = sources.load(spec, channels=5, maximum=4095).train
  np.testing.assert_allclose(train_split.reader.image(0), 500 / 4095, atol=1e-7)
  with pytest.raises(
    ValueError, match='of 5 channels, not 3|5 channels, not 3'
  ):
    source_from_arrays(np.zeros((4, 8, 8, 5), np.uint8), channels=3)
  assert augment.to_float(np.float32([0.5])) == 0.5
