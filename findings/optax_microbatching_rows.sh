#!/usr/bin/env bash
# optax 0.2.8 with JAX 0.10.2: optax.microbatching.microbatch.
#
# Expected: a batch of 8 rows in microbatches of 2 is cut into rows (0, 1),
# (2, 3), (4, 5), (6, 7), as the loop in its docstring suggests.
#
# Seen: microbatch j holds every k-th row, k being the number of microbatches:
# (0, 4), (1, 5), (2, 6), (3, 7). The reshape is column-major, which keeps
# shards of the batch on their devices. Results gathered with CONCAT come back
# in the right order, so checking a function that works row by row shows
# nothing.
#
# Why it matters here: contrastive losses and batch statistics look across
# rows. With the two views of an image in neighboring rows every pair is torn
# apart; with views stacked as two halves, pairs stay together only when a
# microbatch covers a full period. Consecutive groups (ghost batch norm, local
# negatives) change their meaning, and the result stays finite and plausible.
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
kinds = optax.microbatching.AccumulationType


def in_pairs(fun, kind):
  return optax.microbatching.microbatch(fun, 0, 2, kind)


# Each microbatch reports the rows it was given.
rows = in_pairs(lambda x: x[None], kinds.CONCAT)(jnp.arange(8))
groups = {tuple(np.asarray(group).tolist()) for group in rows}
print('rows of the microbatches:', sorted(groups))
assert groups == {(0, 4), (1, 5), (2, 6), (3, 7)}

same = in_pairs(lambda x: x + 100, kinds.CONCAT)(jnp.arange(8))
print('row by row, gathered:', same)
assert np.array_equal(same, np.arange(8) + 100)

# Neighboring rows are the two (here equal) views of an image.
views = jnp.repeat(jnp.array([1.0, 2.0, 3.0, 4.0]), 2)
distance = in_pairs(lambda x: jnp.abs(x[0] - x[1]), kinds.SUM)(views)
by_hand = sum(abs(views[i] - views[i + 1]) for i in range(0, 8, 2))
print('distance of the views:', float(distance), 'instead of', float(by_hand))
assert by_hand == 0
assert distance == 8
PY
