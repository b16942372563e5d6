"""What files are is counted at the start; why an image is no image."""

import io
import re

import numpy as np
import PIL.Image
import pytest

from contrastive_jax.data import decode, headers, readers, sources, survey
from contrastive_jax.data import split as split_lib


def _source(encoded):
  """A source of encoded images, as TFDS keeps them in memory."""
  table = decode.tf.constant(encoded)
  reader = readers.RandomAccess(
    lambda i: (decode.tf.gather(table, i), -1), len(encoded), 3
  )
  split = split_lib.Split('these', len(encoded), 3, reader)
  return split_lib.Source('these', split, None)


def _settled(encoded, channels=None, maximum=0.0):
  return survey.settled(_source(encoded), channels, (1.0,), maximum)


def _encoded(image, kind, **options):
  data = io.BytesIO()
  image.save(data, kind, **options)
  return data.getvalue()


def _exif(orientation):
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  return exif


_RGB = PIL.Image.new('RGB', (8, 8), (200, 100, 50))
_CLEAR = PIL.Image.new('RGBA', (8, 8), (200, 100, 50, 128))
_MOVING = {'save_all': True, 'append_images': [PIL.Image.new('RGB', (8, 8))]}
_DEEP = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
_TURNED = '2 are turned, as their EXIF data say'
_ALPHA = '2 have alpha and lie on white'


@pytest.mark.parametrize(
  'encoded, sentence',
  [
    (_encoded(_CLEAR, 'png'), _ALPHA),
    (_encoded(_RGB.convert('LA'), 'png'), _ALPHA),
    (_encoded(_RGB.convert('P'), 'png', transparency=0), _ALPHA),
    (_encoded(_CLEAR, 'webp'), _ALPHA),
    (_encoded(_CLEAR, 'tiff'), _ALPHA),
    (
      _encoded(_CLEAR, 'png'),
      r'TIFF \(2\), PNG \(2\); CMYK \(2\), RGB with alpha \(2\); ',
    ),
    (
      _encoded(_RGB.convert('L'), 'bmp'),
      r'TIFF \(2\), BMP \(2\); CMYK \(2\), gray \(2\); ',
    ),
    (_encoded(_RGB, 'jpeg', exif=_exif(6)), _TURNED),
    (_encoded(_RGB, 'png', exif=_exif(3)), _TURNED),
    (_encoded(_RGB, 'webp', exif=_exif(8)), _TURNED),
    (_encoded(_RGB, 'png', **_MOVING), '2 have several pages or frames, of wh'),
    (_encoded(_RGB, 'gif', **_MOVING), '2 have several pages or frames, of wh'),
    (b'no image', 'warning: .* 2 are no images'),
    (b'', 'warning: .* 2 are no images'),
  ],
)
def test_what_is_found_is_counted(encoded, sentence):
  fine = _encoded(_RGB.convert('CMYK'), 'tiff')
  notes = _settled([fine, encoded, fine, encoded]).notes
  assert re.match('these, 4 images looked at: .*; width x height .*8', notes[0])
  assert re.search(sentence, '\n'.join(notes)), notes


def test_sizes_are_those_of_what_is_shown():
  small, large = _RGB.resize((9, 5)), _RGB.resize((20, 10))
  files = [_encoded(small, 'png'), _encoded(large, 'jpeg', exif=_exif(6))]
  (note, _) = _settled(files).notes
  assert note.endswith('; width x height 9 x 5 to 10 x 20, median 10 x 20')
  assert _settled(files).train.reader.image(1).shape == (20, 10, 3)


def test_what_is_in_memory_is_not_looked_at():
  assert sources.load('digits').notes == ()


@pytest.mark.parametrize(
  'shift, bits', [(0, 16), (1, 16), (2, 14), (4, 12), (6, 10), (8, 8)]
)
def test_the_white_of_16_bits_is_of_the_bits_that_are_used(shift, bits):
  values = _DEEP >> shift
  white = 2**bits - 1
  split = _settled([_encoded(PIL.Image.fromarray(values), 'png')] * 2).train
  assert split.maximum == split.reader.maximum == white
  assert split.dtype == np.float32
  image = split.reader.image(0)
  assert image.dtype == np.float32 and image.shape == (8, 8, 3)
  np.testing.assert_allclose(image[..., 1], values / white, atol=1e-7)


def test_the_white_of_16_bits_is_said_and_can_be_chosen():
  files = [_encoded(PIL.Image.fromarray(_DEEP // 16), 'png')] * 2
  (_, note) = _settled(files).notes
  assert re.search(
    r'2 of its images: uint16 values from 0 to 4,095: taken for 12 bits, 4,095 '
    r'is white \(data.maximum',
    note,
  )
  split = _settled(files, maximum=1000).train
  assert split.maximum == 1000
  expected = np.minimum(_DEEP // 16 / 1000, 1)
  np.testing.assert_allclose(split.reader.image(0)[..., 0], expected, atol=1e-7)


def test_floats_that_are_no_numbers_are_named():
  image = np.zeros((8, 8), np.float32)
  image[0, 0] = np.nan  # as maps have where nothing was measured
  encoded = _encoded(PIL.Image.fromarray(image), 'tiff')
  with pytest.raises(ValueError, match='some values are NaN or infinite'):
    _settled([encoded] * 2)


def test_files_of_8_bits_beside_deep_ones_have_their_own_white():
  deep = _encoded(PIL.Image.fromarray(_DEEP // 16), 'png')
  for kind in ('png', 'bmp', 'tiff'):
    split = _settled([deep, deep, _encoded(_RGB, kind)]).train
    expected = np.float32([200, 100, 50]) / 255
    np.testing.assert_allclose(split.reader.image(2)[3, 3], expected, atol=1e-7)


def test_a_folder_says_so_at_the_start_and_reads_few_files(tmp_path):
  for i in range(450):
    _RGB.save(tmp_path / f'{i:03}.png')
  for i in range(0, 450, 2):
    _RGB.convert('RGBA').save(tmp_path / f'{i:03}.png')
  counts, alpha = sources.load(f'folder:{tmp_path}').notes[-2:]
  assert ', 200 images looked at: PNG (200); ' in counts
  assert 50 < int(alpha.split('of these ')[1].split()[0]) < 150


@pytest.mark.parametrize(
  'encoded, reason',
  [
    (b'', 'empty'),
    (b'no image', 'no image'),
    (_encoded(_RGB, 'jpeg')[:300], 'no image'),
    (_encoded(_RGB, 'png')[:-30], 'damaged'),
    (
      _encoded(PIL.Image.new('1', (14_000, 14_000)), 'png'),
      r'too large \(196 megapixels\)',
    ),
  ],
)
def test_why_an_image_cannot_be_read(tmp_path, encoded, reason):
  train = _source([encoded]).train
  assert re.fullmatch(reason, headers.why_unreadable(train, 0))
  (tmp_path / 'a.png').write_bytes(encoded)
  _RGB.save(tmp_path / 'b.png')
  train = sources.load(f'folder:{tmp_path}').train
  assert re.fullmatch(reason, headers.why_unreadable(train, 0))
  (tmp_path / 'a.png').unlink()
  assert headers.why_unreadable(train, 0) == (
    'cannot be opened: No such file or directory'
  )
