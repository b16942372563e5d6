"""NT-Xent's value and gradient: time and memory, beside the dense matrix.

python -m experiments.benchmarks.loss
"""

import functools

import jax
import jax.numpy as jnp

from contrastive_jax.commands import command_line
from contrastive_jax.losses._nt_xent import nt_xent
from contrastive_jax.losses.normalize import l2_normalize
from experiments.benchmarks import timing

DIMENSIONS = 128


def dense_nt_xent(z_a: jax.Array, z_b: jax.Array) -> jax.Array:
  """The loss as it is usually written: the whole matrix at once."""
  n = len(z_a)
  u = l2_normalize(jnp.concatenate([z_a, z_b]))
  logits = u @ u.T / 0.1
  logits = jnp.where(jnp.eye(2 * n, dtype=bool), -jnp.inf, logits)
  positive = jnp.roll(jnp.arange(2 * n), n)
  chosen = jnp.take_along_axis(logits, positive[:, None], axis=1)[:, 0]
  return jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen)


def main() -> None:
  """Prints, for each batch size, time and temporary memory of both."""
  for pairs in (1024, 4096, 8192):
    keys = jax.random.split(jax.random.key(0))
    z = [jax.random.normal(key, (pairs, DIMENSIONS)) for key in keys]
    sides = [
      jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*z).compile()
      for loss in (lambda a, b: nt_xent(a, b, temperature=0.1), dense_nt_xent)
    ]
    calls = [functools.partial(side, *z) for side in sides]
    for label, side in zip(('ours', 'dense'), sides, strict=True):
      memory = side.memory_analysis()
      assert memory is not None  # of this backend it is not
      mebibytes = memory.temp_size_in_bytes / 2**20
      print(f'{pairs} pairs, {label}: {mebibytes:,.0f} MiB')
    timing.compare(f'{pairs} pairs', *calls, items=1, rounds=3, target=0.9)


if __name__ == '__main__':
  command_line.set_up_cpu(1)
  main()
