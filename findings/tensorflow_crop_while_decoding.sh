#!/usr/bin/env bash
# TensorFlow 2.21.0 (tensorflow-cpu): tf.io.decode_and_crop_jpeg.
#
# Expected: the same pixels as tf.io.decode_jpeg and then slicing, only faster;
# its docstring calls it "equivalent to a combination of decode and crop".
#
# Seen: with chroma subsampling (4:2:0, what nearly all photos have) the last
# column differs for every crop that ends at an even x inside the 128 x 128
# image made here (157 of 300 random crops); in 11 crops, all beginning at a
# multiple of 16, the first column differs too. Up to 27 of 255 levels. All
# other pixels are equal, and with full chroma (4:4:4) every pixel is. At the
# edge of the crop the chroma is enlarged without the neighbor outside it.
#
# Why it matters here: random resized crops are the heart of contrastive
# augmentation, and decoding just the crop is the usual speedup. Views are then
# not bit-equal between the two ways, so a golden-value test or a resumed run
# that changes the way breaks, although each half of it looks right.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q tensorflow-cpu==2.21.0 numpy==2.4.6
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
"$dir/venv/bin/python" - 2>"$dir/log" <<'PY' || { cat "$dir/log"; exit 1; }
import numpy as np
import tensorflow as tf

print('tensorflow', tf.__version__, 'numpy', np.__version__)
rng = np.random.default_rng(0)
small = rng.integers(0, 256, (16, 16, 3)).astype(np.float32)
image = tf.image.resize(small, (128, 128), 'bicubic')
image = tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8)


def compare(subsampled):
  data = tf.io.encode_jpeg(image, quality=90, chroma_downsampling=subsampled)
  whole = tf.io.decode_jpeg(data).numpy().astype(int)
  draw = np.random.default_rng(1)
  last = even = first = most = 0
  for _ in range(300):
    height, width = draw.integers(8, 100, 2)
    top, left = draw.integers(0, 128 - height), draw.integers(0, 128 - width)
    window = [top, left, height, width]
    crop = tf.io.decode_and_crop_jpeg(data, window).numpy().astype(int)
    sliced = whole[top : top + height, left : left + width]
    off = np.abs(crop - sliced)
    most = max(most, off.max())
    # Nothing but the two edge columns ever differs.
    assert not off[:, 1:-1].any()
    ends_even = (left + width) % 2 == 0
    even += ends_even
    last += off[:, -1].any()
    first += off[:, 0].any()
    if subsampled:
      assert off[:, -1].any() == ends_even
      assert not off[:, 0].any() or (left and left % 16 == 0)
  name = '4:2:0' if subsampled else '4:4:4'
  print(
    f'{name}: 300 crops, {even} end at an even x; the last column differs in '
    f'{last}, the first in {first}, by up to {most} levels'
  )
  return last, most


assert compare(False) == (0, 0)
last, most = compare(True)
assert last > 100
assert most > 10
PY
