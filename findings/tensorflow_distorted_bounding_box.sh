#!/usr/bin/env bash
# tensorflow-cpu 2.21.0: tf.image.sample_distorted_bounding_box, the random crop
# of the official SimCLR (and of most TPU code for ImageNet).
#
# Expected: with area_range=(0.08, 1) a share of the area that is uniform in that
# range, as in torchvision's RandomResizedCrop, so a mean of 0.5 or so; and a
# place that is uniform over all where the crop fits.
#
# Seen: the *height* is uniform, so that small crops are more frequent: a mean
# share of 0.41, 42 % of the crops below 0.31 of the area instead of a quarter;
# the ratio is uniform, not its logarithm; and a crop lower than the image never
# touches its last row (nor its last column), though it touches the first.
#
# Why it matters here: the strength of the crop is the most important choice of
# SimCLR. One recipe run by "the same" random resized crop of two libraries is
# two recipes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q tensorflow-cpu==2.21.0 numpy==2.4.6
export TF_CPP_MIN_LOG_LEVEL=3
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import tensorflow as tf

print('tensorflow', tf.__version__)


@tf.autograph.experimental.do_not_convert  # standard input has no source
def box(seed):
  begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
    [256, 256, 3],
    [[[0.0, 0.0, 1.0, 1.0]]],
    tf.stack([seed, 0]),
    min_object_covered=0.0,
    aspect_ratio_range=(3 / 4, 4 / 3),
    area_range=(0.08, 1.0),
  )
  return tf.concat([begin[:2], size[:2]], 0)


top, left, height, width = tf.map_fn(box, tf.range(4000)).numpy().T
share = height * width / 256**2
print('mean share of the area:', share.mean().round(3))
print('below 0.31:', (share < 0.31).mean().round(3), 'of the crops')
assert 0.40 < share.mean() < 0.42
assert 0.40 < (share < 0.31).mean() < 0.44
lower = height < 256
first, last = (top == 0) & lower, (top + height == 256) & lower
print('at the first row:', first.sum(), ' at the last row:', last.sum())
assert first.sum() > 30
assert last.sum() == 0
PY
