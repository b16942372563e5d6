#!/usr/bin/env bash
# JAX 0.12.0.1 (Python 3.12 or newer): the gradient of erf and erfc, and with
# them of the exact GELU, under shard_map.
#
# Expected: jax.grad of jax.nn.gelu(x, approximate=False) inside shard_map, as it
# is in JAX 0.10.2 and as it is outside of shard_map.
#
# Seen: ValueError, "Primitive polynomial requires varying manual axes to match":
# the coefficients of the derivative's polynomial are taken to be the same on all
# devices, the argument is not, and nothing casts them. The forward pass works,
# and so does everything under check_vma=False.
#
# Why it matters here: the exact GELU is PyTorch's default, so every ViT and
# every DINO head has it; a training step that ran under shard_map fails to
# trace after an upgrade.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python=${PYTHON:-python3.13}
"$python" -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q jax==0.12.0.1 jaxlib==0.12.0.1 numpy==2.5.5
export JAX_PLATFORMS=cpu
"$dir/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

print('jax', jax.__version__)
mesh = Mesh(np.array(jax.devices()[:1]), ('devices',))
x = jnp.array([-1.0, 0.5, 2.0])


def mapped(function, **options):
  function = jax.shard_map(
    function, mesh=mesh, in_specs=P('devices'), out_specs=P('devices'), **options
  )
  return jax.jit(function)(x)


def slope(function):
  return jax.grad(lambda x: function(x).sum())


def exact(x):
  return jax.nn.gelu(x, approximate=False)


for name, function in (
  ('erf', jax.lax.erf),
  ('erfc', jax.lax.erfc),
  ('exact GELU', exact),
):
  assert np.allclose(mapped(function), function(x))
  try:
    mapped(slope(function))
  except ValueError as error:
    print(f'{name}: forward as outside; gradient:', str(error)[:66])
    assert 'varying manual axes' in str(error)
  else:
    raise AssertionError(f'the gradient of {name} works now')
  unchecked = mapped(slope(function), check_vma=False)
  assert np.allclose(unchecked, slope(function)(x))
# The tanh form is not concerned.
assert np.allclose(mapped(slope(jax.nn.gelu)), slope(jax.nn.gelu)(x))
PY
