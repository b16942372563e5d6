#!/usr/bin/env bash
# optax 0.2.8 with JAX 0.10.2: optax.losses.ntxent(embeddings, labels).
#
# Expected: a row without a positive partner adds nothing to the loss, so a
# batch in which no label repeats has the loss 0 (or raises an error).
#
# Seen: single rows are indeed left out of the mean (they still serve as
# negatives), but when no label occurs twice the loss is NaN: the sum over
# positive pairs, 0, is divided by their number, 0. The gradient of that NaN is
# exactly 0, so the parameters survive and only the number is lost.
#
# Why it matters here: labels say which rows are views of one image. Supervised
# labels with a small batch per device, a short last batch, or
# jnp.arange(2 * n) where jnp.tile(jnp.arange(n), 2) was meant give a batch
# without a pair. The first two happen late and at random: one such batch makes
# the mean over devices or over an epoch NaN and stops a run that watches for
# NaN, while a run that does not watch trains on; and with the wrong labels the
# zero gradient trains nothing.
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
  steepest = float(jnp.abs(gradient).max())
  print(f'labels {labels}: loss {value:.4f}, largest gradient {steepest:.4f}')
  return float(value), steepest


# All paired, one pair only, none.
paired, steepest = loss_and_gradient([0, 1, 2, 3, 0, 1, 2, 3])
assert np.isfinite(paired) and steepest > 0
single, steepest = loss_and_gradient([0, 1, 2, 3, 4, 5, 6, 0])
assert np.isfinite(single) and steepest > 0
none, steepest = loss_and_gradient([0, 1, 2, 3, 4, 5, 6, 7])
assert np.isnan(none)
assert steepest == 0


# As on two devices: one share of the batch has pairs, the other has none.
def share(z, labels):
  return optax.losses.ntxent(z, labels, 0.2)


labels = jnp.array([[0, 1, 0, 1], [0, 1, 2, 3]])
mean = jax.vmap(share)(z.reshape(2, 4, 16), labels).mean()
print('mean over two shares of a batch, one without a pair:', mean)
assert np.isnan(mean)
PY
