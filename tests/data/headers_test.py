"""What decoding loses is counted at the start; why an image is no image."""

import io
import re

import numpy as np
import PIL.Image
import pytest

from contrastive_jax.data import decode, headers, readers, sources
from contrastive_jax.data import split as split_lib


def _source(encoded):
  """A source of encoded images, as TFDS keeps them in memory."""
  table = decode.tf.constant(encoded)
  reader = readers.RandomAccess(
    lambda i: (decode.tf.gather(table, i), -1), len(encoded), 3
  )
  split = split_lib.Split('these', len(encoded), 3, reader)
  return split_lib.Source('these', split, None)


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
_TURNED = 'are turned by EXIF data'


@pytest.mark.parametrize(
  'encoded, sentence',
  [
    (_encoded(_CLEAR, 'png'), 'have alpha'),
    (_encoded(_RGB.convert('LA'), 'png'), 'have alpha'),
    (_encoded(_RGB.convert('P'), 'png', transparency=0), 'have alpha'),
    (_encoded(_CLEAR, 'webp'), 'have alpha'),
    (_encoded(PIL.Image.fromarray(_DEEP), 'png'), 'hold 16-bit values, of whi'),
    (_encoded(PIL.Image.fromarray(_DEEP // 16), 'png'), 'values below 4,096'),
    (_encoded(PIL.Image.fromarray(_DEEP // 64), 'png'), 'values below 4,096'),
    (_encoded(_RGB, 'jpeg', exif=_exif(6)), _TURNED),
    (_encoded(_RGB, 'png', exif=_exif(3)), _TURNED),
    (_encoded(_RGB, 'webp', exif=_exif(8)), _TURNED),
    (_encoded(_RGB, 'png', **_MOVING), 'are animations'),
    (_encoded(_RGB, 'webp', **_MOVING), 'are animations'),
    (b'no image', 'are no images'),
    (b'', 'are no images'),
  ],
)
def test_what_decoding_loses_is_counted(encoded, sentence):
  fine = _encoded(_RGB, 'png')
  (note,) = headers.notes(_source([fine, encoded, fine, encoded]))
  assert note.startswith('warning: of 4 images that were looked at, 2 ')
  assert sentence in note


def test_what_loses_nothing_is_not_mentioned():
  fine = [
    _encoded(_RGB, 'png'),
    _encoded(_RGB, 'jpeg', exif=_exif(1)),
    _encoded(_RGB, 'webp'),
    _encoded(_RGB.convert('L'), 'png'),
    _encoded(_RGB.convert('P'), 'png'),
  ]
  assert headers.notes(_source(fine)) == ()
  assert headers.notes(sources.load('digits')) == ()


def test_a_folder_says_so_at_the_start_and_reads_few_files(tmp_path):
  for i in range(450):
    _RGB.save(tmp_path / f'{i:03}.png')
  for i in range(0, 450, 2):
    _RGB.convert('RGBA').save(tmp_path / f'{i:03}.png')
  note = sources.load(f'folder:{tmp_path}').notes[-1]
  assert 'of 200 images that were looked at, ' in note
  assert 50 < int(note.split('looked at, ')[1].split()[0]) < 150


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
