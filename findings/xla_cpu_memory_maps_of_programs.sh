#!/usr/bin/env bash
# JAX 0.10.2: every program that is compiled for the CPU keeps memory maps.
#
# Expected: a process may compile as many programs as fit into its memory.
#
# Seen: the gradient of a network of 8 convolutions holds some 60 memory maps
# for as long as it is cached, which is until the process ends. Linux allows a
# process 65,530 (vm.max_map_count). A process that compiles hundreds of larger
# programs gets there with most of its memory free, and ends by a segmentation
# fault, for example while it reads a program from the compilation cache.
# jax.clear_caches() gives the maps back.
#
# Why it matters here: a test worker compiles thousands of programs. The tests
# clear the caches after each module.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python=${PYTHON:-python3.11}
"$python" -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
export JAX_PLATFORMS=cpu
"$dir/venv/bin/python" - <<'PY'
import gc

import jax
import jax.numpy as jnp

PROGRAMS, LAYERS = 5, 8


def maps():
  with open('/proc/self/maps') as file:
    return sum(1 for _ in file)


def program(scale):
  def loss(kernels, x):
    for kernel in kernels:
      x = jax.nn.relu(
        jax.lax.conv_general_dilated(
          x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
      )
      x = (x - x.mean(-1, keepdims=True)) / (1 + x.std(-1, keepdims=True))
    return scale * x.mean()

  return jax.jit(jax.grad(loss))


print('jax', jax.__version__)
kernels = [jnp.full((3, 3, 16, 16), 0.1) for _ in range(LAYERS)]
x = jnp.ones((8, 16, 16, 16))
program(0.5)(kernels, x)  # what any program needs
before, kept = maps(), []
for number in range(PROGRAMS):
  kept.append(program(1.0 + number))
  kept[-1](kernels, x)
each = (maps() - before) / PROGRAMS
print(f'{each:.0f} memory maps a program')
assert each > 10
jax.clear_caches()
gc.collect()
print(f'{maps() - before} more than before, after jax.clear_caches()')
assert maps() - before < each
PY
