#!/usr/bin/env bash
# tifffile 2026.3.3 with Pillow 13.0.0 and NumPy 2.4.6: tifffile.imwrite of an
# array of shape (height, width, channels).
#
# Expected: one picture of height x width pixels, whatever the number of
# channels.
#
# Seen: that holds for 1, 3 and 4 channels. With 2, 5 or more the array is
# taken for `height` pages of width x channels pixels. tifffile's own imread
# puts them together again and returns the right array, so writing and reading
# back shows nothing. planarconfig='contig' with photometric='minisblack'
# writes one picture.
#
# Why it matters here: contrastive learning on microscopy or satellite images
# with 5 or more bands often starts from such files. A reader other than
# tifffile (here Pillow) sees 64 tiny gray pictures of 96 x 5, and a loader
# that takes the first page trains on one image row as if it were the image.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q tifffile==2026.3.3 pillow==13.0.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import PIL
import tifffile
from PIL import Image

print('tifffile', tifffile.__version__, 'pillow', PIL.__version__)
for channels in (1, 2, 3, 4, 5, 8):
  shape = (64, 96, channels)
  array = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
  tifffile.imwrite('a.tif', array)
  assert np.array_equal(tifffile.imread('a.tif').reshape(shape), array)
  with tifffile.TiffFile('a.tif') as tiff:
    pages, page_shape = len(tiff.pages), tiff.pages[0].shape
  with Image.open('a.tif') as image:
    frames, first = image.n_frames, np.asarray(image)
  print(
    f'{shape}: {pages} page(s) of {page_shape}; '
    f'Pillow: {frames} frame(s), the first {first.shape}'
  )
  if channels in (1, 3, 4):
    assert (pages, frames) == (1, 1)
    assert np.array_equal(first.reshape(shape), array)
  else:
    assert (pages, frames) == (64, 64)
    assert page_shape == (96, channels)
    assert np.array_equal(first, array[0])

array = np.zeros((64, 96, 5), np.uint8)
tifffile.imwrite(
  'b.tif', array, photometric='minisblack', planarconfig='contig'
)
with tifffile.TiffFile('b.tif') as tiff:
  print('with both arguments:', len(tiff.pages), tiff.pages[0].shape)
  assert len(tiff.pages) == 1 and tiff.pages[0].shape == (64, 96, 5)
PY
