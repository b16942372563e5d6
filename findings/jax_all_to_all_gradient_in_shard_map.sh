#!/usr/bin/env bash
# JAX 0.10.2: the gradient of all_to_all between two different axes, under
# shard_map.
#
# Expected: jax.lax.all_to_all(x, axis, split_axis=1, concat_axis=0) has a
# gradient under shard_map, as it has with split_axis = concat_axis.
#
# Seen: the forward pass works; the gradient is an error, "Expected cotangent
# type ...": its transpose puts the axes back in another order. With tiled=True,
# or with one axis for both and a swapaxes around it, it works.
#
# Why it matters here: losses over the batch of all replicas exchange rows by
# all_to_all.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python=${PYTHON:-python3.11}
"$python" -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
export JAX_PLATFORMS=cpu
"$dir/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

jax.config.update('jax_num_cpu_devices', 2)
print('jax', jax.__version__)
mesh = Mesh(np.array(jax.devices()), ('devices',))
x = jnp.arange(2 * 3 * 2 * 5, dtype=jnp.float32).reshape(2 * 3, 2, 5)


def loss(x, split, concat, tiled):
  if split == 0:
    x = x.swapaxes(0, 1)
  y = jax.lax.all_to_all(
    x, 'devices', split_axis=split, concat_axis=concat, tiled=tiled
  )
  return jnp.sum(y**2)


def gradient(**axes):
  return jax.jit(
    jax.shard_map(
      jax.grad(lambda x: loss(x, **axes)),
      mesh=mesh,
      in_specs=P('devices'),
      out_specs=P('devices'),
    )
  )(x)


for axes in (
  dict(split=0, concat=0, tiled=False),
  dict(split=1, concat=0, tiled=True),
):
  assert np.allclose(gradient(**axes), 2 * x), axes
  print(axes, 'the gradient is right')
axes = dict(split=1, concat=0, tiled=False)
try:
  gradient(**axes)
except ValueError as error:
  print(axes, type(error).__name__, str(error)[:120])
  assert 'cotangent' in str(error)
else:
  raise AssertionError('it works now')
PY
