#!/usr/bin/env bash
# jaxlib 0.10.2 on CPU: the gradient of a convolution inside of a loop.
#
# Expected: jax.grad of a 3 x 3 convolution takes about as long in the body of a
# jax.lax.scan as the same calls one after another.
#
# Seen: tens of times as long. What JAX makes of the input's gradient names the
# kernel's dimensions in another order (b01f_01oi->b01f), and that of the
# kernel's contracts the batch (f01b_i01o->01bf); the pass that brings them into
# the order that the fast kernels know works on the outermost computation of a
# program alone, and a loop's body is another. There the same instruction is
# left as it is, and becomes loops over scalars. Written in the usual order to
# begin with (a flipped kernel, transposed arrays) it is fast in a loop as well.
#
# Why it matters here: gradient accumulation, micro-batching and rematerialized
# layers are loops over convolutions.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python=${PYTHON:-python3.11}
"$python" -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
export JAX_PLATFORMS=cpu
"$dir/venv/bin/python" - <<'PY'
import re
import time

import jax
import jax.numpy as jnp

print('jax', jax.__version__)
PARTS = 4
x = jax.random.normal(jax.random.key(0), (PARTS, 16, 28, 28, 32))
kernel = jax.random.normal(jax.random.key(1), (3, 3, 32, 32))


def convolve(x, kernel):
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def usual_order(dy, kernel):
  return convolve(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


def theirs(dy, kernel):
  return jax.linear_transpose(lambda x: convolve(x, kernel), dy)(dy)[0]


def looped(gradient):
  return jax.jit(lambda x, k: jax.lax.map(lambda dy: gradient(dy, k), x))


def one_by_one(gradient):
  return jax.jit(lambda x, k: jnp.stack([gradient(dy, k) for dy in x]))


def seconds(function):
  compiled = function.lower(x, kernel).compile()
  jax.block_until_ready(compiled(x, kernel))
  times = []
  for _ in range(3):
    began = time.perf_counter()
    jax.block_until_ready(compiled(x, kernel))
    times.append(time.perf_counter() - began)
  labels = set(re.findall(r'dim_labels=(\S+?)[, ]', compiled.as_text()))
  return min(times), labels


assert jnp.allclose(theirs(x[0], kernel), usual_order(x[0], kernel), atol=1e-3)
outside, _ = seconds(one_by_one(theirs))
inside, labels = seconds(looped(theirs))
usual, _ = seconds(looped(usual_order))
print(f'one after another {outside * 1e3:.0f} ms, in a loop {inside * 1e3:.0f}',
      f'ms ({", ".join(sorted(labels))}), in the usual order {usual * 1e3:.0f} ms')
assert any('oi' in label for label in labels), labels
assert inside > 5 * outside
assert usual < 3 * outside
PY
