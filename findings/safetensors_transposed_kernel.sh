#!/usr/bin/env bash
# safetensors 0.8.0 with NumPy 2.4.6: save() and save_file() of
# safetensors.numpy.
#
# Expected: a saved array reads back equal, whatever its memory layout, as with
# np.save. (Or else saving a non-contiguous array is refused.)
#
# Seen: a transposed view is written in the order in which it lies in memory,
# under the shape of the view. It reads back with the right shape and permuted
# values, without an error or a warning. A strided view (a[::2]) comes back as
# the first half of its parent. np.ascontiguousarray before saving is the cure.
#
# Why it matters here: exporting an encoder from JAX to PyTorch turns every
# convolution kernel from HWIO to OIHW and every dense kernel from (in, out) to
# (out, in), which in NumPy is exactly such a view. Shapes, names, mean and
# standard deviation all look right; only the features are wrong, and a probe
# on them looks like a badly pretrained encoder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import safetensors
from safetensors import numpy as st

print('safetensors', safetensors.__version__, 'numpy', np.__version__)
hwio = np.random.default_rng(0).normal(size=(3, 3, 16, 32)).astype(np.float32)
oihw = hwio.transpose(3, 2, 0, 1)
safe = np.ascontiguousarray(oihw)
st.save_file({'view': oihw, 'copy': safe}, 'kernel.safetensors')
back = st.load_file('kernel.safetensors')
wrong = np.mean(back['view'] != oihw)
print('shape written', oihw.shape, 'and read', back['view'].shape)
print(f'transposed view: {wrong:.1%} of the values differ')
print('same after ascontiguousarray:', np.array_equal(back['copy'], oihw))
assert back['view'].shape == oihw.shape
assert wrong > 0.95
# What was written is the memory of the parent.
assert np.array_equal(back['view'].ravel(), hwio.ravel())
assert np.array_equal(back['copy'], oihw)

line = np.arange(8, dtype=np.float32)
half = st.load(st.save({'half': line[::2]}))['half']
print('line[::2] =', line[::2], 'reads back as', half)
assert np.array_equal(half, line[:4])
PY
