#!/usr/bin/env bash
# optax 0.2.8 with JAX 0.10.2: optax.losses.ntxent(embeddings, labels).
#
# Expected: a row without a positive partner adds nothing to the loss, so a
# batch in which no label repeats has the loss 0 (or raises an error).
#
# Seen: single rows are indeed left out (they still serve as negatives), but
# when no label occurs twice the loss is NaN, and so is every entry of the
# gradient: the sum over positive pairs, 0, is divided by their number, 0.
#
# Why it matters here: labels say which rows are views of one image. A small
# batch per device with supervised labels, a last short batch, or labels made
# with arange(2 * n) where tile(arange(n), 2) was meant gives a batch without a
# pair. The first two happen late and at random, and one such step turns all
# parameters into NaN.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 \
  numpy==2.4.6
export JAX_PLATFORMS=cpu
"$dir/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
import optax

print('optax', optax.__version__, 'jax', jax.__version__)
z = jax.random.normal(jax.random.key(0), (8, 16))


def loss_and_gradient(labels):
  value, gradient = jax.value_and_grad(optax.losses.ntxent)(
    z, jnp.array(labels), 0.2
  )
  finite = bool(np.isfinite(gradient).all())
  print(f'labels {labels}: loss {value:.4f}, gradient finite: {finite}')
  return float(value), np.asarray(gradient)


# All paired, one pair only, none.
paired, gradient = loss_and_gradient([0, 1, 2, 3, 0, 1, 2, 3])
assert np.isfinite(paired) and np.isfinite(gradient).all()
single, gradient = loss_and_gradient([0, 1, 2, 3, 4, 5, 6, 0])
assert np.isfinite(single) and np.isfinite(gradient).all()
none, gradient = loss_and_gradient([0, 1, 2, 3, 4, 5, 6, 7])
assert np.isnan(none) and np.isnan(gradient).all()
PY
