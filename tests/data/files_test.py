"""Pixels of every kind of file are those of Pillow, tifffile and NumPy."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import skimage.data
import tifffile

from contrastive_jax.data import decode, headers, pipeline, sources

_PHOTO = PIL.Image.fromarray(skimage.data.astronaut()).resize((48, 32))
_ALPHA = PIL.Image.fromarray(skimage.data.camera()).resize((48, 32))
_DEEP = np.random.default_rng(0).integers(0, 4096, (32, 48, 5), np.uint16)


def _encoded(image, kind, **options):
  data = io.BytesIO()
  image.save(data, kind, **options)
  return data.getvalue()


def _tiff(array, **options):
  data = io.BytesIO()
  tifffile.imwrite(data, array, **options)
  return data.getvalue()


def _decoded(encoded, channels=3, **how):
  return decode.decode_image(decode.tf.constant(encoded), channels, **how)


def _pillow(encoded):
  return PIL.Image.open(io.BytesIO(encoded))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['jpeg', 'png', 'webp', 'tiff'])
def test_exif_orientation_is_applied(kind, orientation):
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  encoded = _encoded(_PHOTO, kind, exif=exif)
  expected = PIL.ImageOps.exif_transpose(_pillow(encoded))
  np.testing.assert_array_equal(_decoded(encoded), np.asarray(expected))
  deep = _decoded(encoded, maximum=4095.0)
  np.testing.assert_allclose(deep, np.asarray(expected) / 255, atol=1e-7)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_of_deep_files(orientation):
  plain = PIL.Image.fromarray(_DEEP[..., 0])
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  for encoded in (
    _encoded(plain, 'png', exif=exif),
    _tiff(_DEEP[..., 0], extratags=[(274, 3, 1, orientation, True)]),
  ):
    # Of 8 bits, where Pillow turns what it can be asked for.
    small = PIL.Image.fromarray((_DEEP[..., 0] >> 4).astype(np.uint8))
    small = _pillow(_encoded(small, 'png', exif=exif))
    expected = np.asarray(PIL.ImageOps.exif_transpose(small))
    ours = _decoded(encoded, 1, maximum=4095.0)[..., 0]
    np.testing.assert_array_equal(
      np.round(ours * 4095).astype(int) >> 4, expected
    )


def test_exif_data_behind_much_else_are_found():
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  encoded = _encoded(_PHOTO, 'jpeg', exif=exif)
  comment = b'\xff\xfe' + (60_002).to_bytes(2, 'big') + bytes(60_000)
  assert _decoded(encoded[:2] + comment + encoded[2:]).shape == (48, 32, 3)


@pytest.mark.parametrize('background', [(1.0,), (0.0,), (0.2, 0.4, 0.6)])
@pytest.mark.parametrize(
  'kind, mode, options',
  [
    ('png', 'RGBA', {}),
    ('png', 'LA', {}),
    ('png', 'P', {'transparency': 7}),
    ('png', 'RGB', {'transparency': (0, 0, 0)}),
    ('webp', 'RGBA', {'lossless': True, 'exact': True}),
    ('tiff', 'RGBA', {}),
    ('gif', 'RGBA', {}),
  ],
)
def test_alpha_lies_on_the_background(kind, mode, options, background):
  image = _PHOTO.copy()
  if 'A' in mode:
    image.putalpha(_ALPHA)
  encoded = _encoded(image.convert(mode), kind, **options)
  theirs = _pillow(encoded).convert('RGBA')
  color = [round(255 * x) for x in background] * 3
  behind = PIL.Image.new('RGBA', theirs.size, (*color[:3], 255))
  theirs = PIL.Image.alpha_composite(behind, theirs).convert('RGB')
  ours = _decoded(encoded, background=background)
  np.testing.assert_array_equal(ours, np.asarray(theirs))


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB'])
@pytest.mark.parametrize('kind', ['bmp', 'gif', 'tiff'])
def test_bmp_gif_and_tiff_of_8_bits(kind, mode):
  encoded = _encoded(_PHOTO.convert(mode), kind)
  expected = np.asarray(_pillow(encoded).convert('RGB'))
  np.testing.assert_array_equal(_decoded(encoded), expected)
  gray = _decoded(encoded, 1).numpy()[..., 0]
  luma = expected @ np.array([0.299, 0.587, 0.114])
  np.testing.assert_allclose(gray, luma, atol=0.51)


@pytest.mark.parametrize('kind', ['gif', 'tiff', 'webp', 'png'])
def test_the_first_frame_counts(kind):
  second = PIL.Image.new('RGB', _PHOTO.size, 'red')
  encoded = _encoded(_PHOTO, kind, save_all=True, append_images=[second])
  expected = np.asarray(_pillow(encoded).convert('RGB'))
  np.testing.assert_array_equal(_decoded(encoded), expected)


@pytest.mark.parametrize(
  'compression', [None, 'tiff_lzw', 'tiff_deflate', 'packbits', 'jpeg']
)
def test_tiff_of_8_bits_is_read_with_any_compression(compression):
  encoded = _encoded(_PHOTO, 'tiff', compression=compression)
  expected = np.asarray(_pillow(encoded))
  np.testing.assert_array_equal(_decoded(encoded), expected)


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'float32'])
@pytest.mark.parametrize('how', ['contig', 'separate', 'deflate', 'plain'])
def test_tiff_of_any_bits_and_channels(channels, dtype, how):
  values = _DEEP[..., :channels]
  values = values >> 4 if dtype == 'uint8' else values
  white = {'uint8': 255, 'uint16': 4095, 'float32': 1}[dtype]
  values = (values / 4095 if dtype == 'float32' else values).astype(dtype)
  expected = values.astype(np.float32) / white
  options = {'photometric': 'minisblack', 'planarconfig': 'contig'}
  if how == 'separate':
    values = np.moveaxis(values, -1, 0)
    options['planarconfig'] = 'separate'
  elif how == 'deflate':
    options |= {'compression': 'zlib', 'predictor': dtype != 'float32'}
  if channels == 1:
    values = values.reshape(32, 48)
    del options['planarconfig']
  if how == 'plain' and channels == 4:
    return  # tifffile would write RGB with alpha
  if how == 'plain':  # as most people write them
    options = {'photometric': 'rgb'} if channels == 3 else {}
  encoded = _tiff(values, **options)
  ours = _decoded(encoded, channels, maximum=float(white)).numpy()
  np.testing.assert_allclose(ours, expected, atol=1e-7)
  assert ours.dtype == np.float32
  header = headers.look(io.BytesIO(encoded))
  assert header is not None and (header.width, header.height) == (48, 32)
  assert header.channels == channels
  assert header.depth == ('float' if dtype == 'float32' else dtype)


def test_tiff_whose_pages_are_channels_and_whose_pages_are_not():
  planes = np.moveaxis(_DEEP, -1, 0)
  expected = _DEEP / np.float32(4095)
  for options in (
    {'imagej': True, 'metadata': {'axes': 'CYX'}},
    {'ome': True, 'metadata': {'axes': 'CYX'}},
    {},
  ):
    ours = _decoded(_tiff(planes, **options), 5, maximum=4095.0)
    np.testing.assert_allclose(ours, expected, atol=1e-7)
  stack = np.repeat(planes, 8, axis=0)  # of 40 pages the first counts
  ours = _decoded(_tiff(stack), 1, maximum=4095.0)
  np.testing.assert_allclose(ours, expected[..., :1], atol=1e-7)


def test_tiff_is_black_at_zero_and_its_fourth_band_is_no_alpha():
  gray = _DEEP[..., 0]
  ours = _decoded(_tiff(gray, photometric='miniswhite'), 1, maximum=65_535.0)
  np.testing.assert_allclose(ours[..., 0], 1 - gray / 65_535, atol=1e-6)
  bands = (_DEEP[..., :4] >> 4).astype(np.uint8)
  encoded = _tiff(bands, photometric='rgb', extrasamples=['unspecified'])
  np.testing.assert_array_equal(_decoded(encoded, 4), bands)


@pytest.mark.parametrize('kind', ['unassalpha', 'assocalpha'])
def test_alpha_of_16_bits(kind):
  values = _DEEP[..., :4].astype(np.float32) / 4095
  colors, alpha = values[..., :3], values[..., 3:]
  stored = colors * alpha if kind == 'assocalpha' else colors
  stored = np.concatenate([stored, alpha], -1)
  stored = np.round(stored * 65_535).astype(np.uint16)
  encoded = _tiff(stored, photometric='rgb', extrasamples=[kind])
  ours = _decoded(encoded, background=(0.25,), maximum=65_535.0)
  expected = colors * alpha + 0.25 * (1 - alpha)
  np.testing.assert_allclose(ours, expected, atol=3e-5)


def test_png_of_16_bits_keeps_them_in_every_color():
  tf = decode.tf
  for channels in (1, 3):
    values = _DEEP[..., :channels]
    encoded = tf.io.encode_png(values).numpy()
    ours = _decoded(encoded, channels, maximum=4095.0)
    np.testing.assert_allclose(ours, values / 4095, atol=1e-7)
  encoded = tf.io.encode_png(_DEEP[..., :4] * 16).numpy()
  ours = _decoded(encoded, background=(0.0,), maximum=65_535.0)
  values = _DEEP[..., :4] * 16 / 65_535
  np.testing.assert_allclose(ours, values[..., :3] * values[..., 3:], atol=1e-6)


def test_a_folder_of_five_bands_goes_through_the_pipeline(tmp_path):
  for i in range(12):
    path = tmp_path / f'{i:02}.tif'
    tifffile.imwrite(
      path,
      _DEEP[:24, :24] // 2 + i,
      photometric='minisblack',
      planarconfig='contig',
    )
  _PHOTO.save(tmp_path / 'photo.jpg')
  tifffile.imwrite(tmp_path / 'signed.tif', np.zeros((8, 8), np.int16))
  (tmp_path / 'torn.tif').write_bytes(path.read_bytes()[:900])
  source = sources.load(f'folder:{tmp_path}')
  said = '\n'.join(source.notes)
  train = source.train
  assert (train.size, train.channels, train.maximum) == (15, 5, 2047 + 2048)
  assert '14 .tif, 1 .jpg' in said
  assert '5-channel of 16 bits (13), RGB (1), gray of int16 (1)' in said
  assert '1 hold int16 values' in said
  assert '2 do not have 5 channels as most' in said
  unreadable = {}
  batches = pipeline.eval_batches(
    train, image_size=24, crop=1.0, batch_size=8, unreadable=unreadable
  )
  rows = {}
  for batch in batches:
    assert batch['input'].dtype == np.float32
    keep = batch['mask']
    rows |= dict(zip(batch['id'][keep], batch['input'][keep], strict=True))
  assert sorted(rows) == list(range(12)) and sorted(unreadable) == [12, 13, 14]
  for i, image in rows.items():
    np.testing.assert_allclose(
      image, (_DEEP[:24, :24] // 2 + i) / np.float32(4095), atol=1e-6
    )
  reasons = [headers.why_unreadable(train, i) for i in (12, 13, 14)]
  assert reasons[0] == '3 channels, not 5'
  assert 'values are int16' in reasons[1] and reasons[2]


def test_floats_need_a_white_and_kinds_are_not_mixed(tmp_path):
  for i in range(4):
    tifffile.imwrite(tmp_path / f'{i}.tif', np.full((8, 8), 80.0 * i, 'f4'))
  with pytest.raises(
    ValueError, match=r'from 0 to 240: they must be in \[0, 1'
  ):
    sources.load(f'folder:{tmp_path}')
  train = sources.load(f'folder:{tmp_path}', maximum=160).train
  assert train.maximum == 160 and train.channels == 3
  found = [float(train.reader.image(i).max()) for i in range(4)]
  assert found == [0, 0.5, 1, 1]  # cut
  tifffile.imwrite(tmp_path / '4.tif', np.zeros((8, 8), np.uint16))
  with pytest.raises(ValueError, match='1 hold 16-bit values and 4 floats'):
    sources.load(f'folder:{tmp_path}')


def test_a_tiff_may_be_too_large(tmp_path, monkeypatch):
  for i in range(2):
    tifffile.imwrite(tmp_path / f'{i}.tif', _DEEP[..., 0])
  monkeypatch.setattr(PIL.Image, 'MAX_IMAGE_PIXELS', 700)
  train = sources.load(f'folder:{tmp_path}', maximum=4095).train
  assert headers.why_unreadable(train, 0) == 'too large (0 megapixels)'
