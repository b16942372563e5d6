#!/usr/bin/env bash
# Pillow 13.0.0 with tifffile 2026.3.3 and NumPy 2.4.6: 16-bit pictures and
# convert('RGB') or convert('L').
#
# Expected: both gray and color pictures of 16 bits are scaled to 8 bits in one
# and the same way, 65535 becoming 255.
#
# Seen: a color TIFF of 16 bits keeps the upper 8 bits (1000 becomes 3), but a
# gray TIFF or PNG of 16 bits is clipped: every value from 255 on becomes 255,
# so a ramp over the whole range turns 99.7% white (0.4% when stored as color).
# No error and no warning.
#
# Why it matters here: X-ray, microscopy and depth images are 16-bit gray, and
# convert('RGB') is what image folders are usually read with. Two views of an
# all-white picture are equal, the loss gets small and the run looks like a
# success or a collapse of the method. The same data stored as color does
# train, so gray and color copies of one data set do not agree.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import PIL
import tifffile
from PIL import Image

print('pillow', PIL.__version__, 'tifffile', tifffile.__version__)
ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
ramp[0, :4] = 100, 255, 1000, 65535
color = np.repeat(ramp[..., None], 3, -1)
tifffile.imwrite('gray.tif', ramp, photometric='minisblack')
tifffile.imwrite('color.tif', color, photometric='rgb')
Image.fromarray(ramp).save('gray.png')

for name in ('gray.tif', 'gray.png', 'color.tif'):
  for mode in ('L', 'RGB'):
    with Image.open(name) as image:
      opened = image.mode
      pixels = np.asarray(image.convert(mode)).reshape(64, 64, -1)[..., 0]
    white = np.mean(pixels == 255)
    print(
      f'{name} opened as {opened}, converted to {mode}: '
      f'{ramp[0, :4].tolist()} become {pixels[0, :4].tolist()}, '
      f'{white:.1%} white'
    )
    if name == 'color.tif':
      assert np.array_equal(pixels, ramp >> 8)
    else:
      assert np.array_equal(pixels, np.minimum(ramp, 255))
      assert white > 0.99
PY
