"""NT-Xent's value, statistics and gradient: time and memory, of three forms.

python -m experiments.benchmarks.loss
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax.commands import command_line
from contrastive_jax.losses._nt_xent import nt_xent_and_statistics
from contrastive_jax.losses.normalize import l2_normalize
from experiments.benchmarks import timing

DIMENSIONS = 128
TEMPERATURE = 0.1
BLOCK_ROWS = 512


def dense(z_a: jax.Array, z_b: jax.Array) -> tuple[jax.Array, Any]:
  """The loss as it is usually written: the whole matrix at once."""
  n = len(z_a)
  u = l2_normalize(jnp.concatenate([z_a, z_b]))
  terms = anchor_terms(u, (u, jnp.arange(2 * n)))
  return jnp.mean(terms.pop('loss')), jax.tree.map(jnp.mean, terms)


def by_rows(z_a: jax.Array, z_b: jax.Array) -> tuple[jax.Array, Any]:
  """512 whole rows of the matrix at a time, which does not use its symmetry."""
  n = len(z_a)
  u = l2_normalize(jnp.concatenate([z_a, z_b]))
  blocks = (
    u.reshape(-1, BLOCK_ROWS, DIMENSIONS),
    jnp.arange(2 * n).reshape(-1, BLOCK_ROWS),
  )
  # The backward pass makes each block's similarities again.
  rows_fn = jax.checkpoint(functools.partial(anchor_terms, u))
  terms = jax.lax.map(rows_fn, blocks)
  return jnp.mean(terms.pop('loss')), jax.tree.map(jnp.mean, terms)


def by_pairs(z_a: jax.Array, z_b: jax.Array) -> tuple[jax.Array, Any]:
  """The library's: each block on and above the diagonal once."""
  return nt_xent_and_statistics(z_a, z_b, temperature=TEMPERATURE)


def anchor_terms(
  columns: jax.Array, anchors: tuple[jax.Array, jax.Array]
) -> dict[str, jax.Array]:
  """Loss and statistics of some rows of the matrix, [n] each."""
  rows, own = anchors
  logits = jnp.matmul(rows, columns.T, precision='highest') / TEMPERATURE
  index = jnp.arange(len(columns))
  is_self = index == own[:, None]
  is_positive = index == (own[:, None] + len(columns) // 2) % len(columns)
  logits = jnp.where(is_self, -jnp.inf, logits)
  normalizer = jax.nn.logsumexp(logits, axis=1)
  positive = jnp.sum(jnp.where(is_positive, logits, 0.0), axis=1)
  loss = normalizer - positive

  logits, normalizer, positive = jax.lax.stop_gradient(
    (logits, normalizer, positive)
  )
  hardest = jnp.max(jnp.where(is_positive, -jnp.inf, logits), axis=1)
  probability = jnp.exp(logits - normalizer[:, None])
  expected = jnp.sum(jnp.where(is_self, 0.0, probability * logits), axis=1)
  return {
    'loss': loss,
    'contrastive_accuracy': (positive > hardest).astype(jnp.float32),
    'entropy': normalizer - expected,
    'positive_similarity': positive * TEMPERATURE,
    'hardest_negative_similarity': hardest * TEMPERATURE,
  }


def compiled(
  form: Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]], pairs: int
) -> Callable[..., Any]:
  """Returns the form's value and gradient, and prints its memory."""
  z = jax.ShapeDtypeStruct((pairs, DIMENSIONS), jnp.float32)
  both = jax.value_and_grad(form, argnums=(0, 1), has_aux=True)
  call = jax.jit(both).lower(z, z).compile()
  memory = call.memory_analysis()
  assert memory is not None  # of this backend it is not
  mebibytes = memory.temp_size_in_bytes / 2**20
  print(f'{pairs:,} pairs, {form.__name__}: {mebibytes:,.0f} MiB')
  return call


def embeddings(pairs: int) -> list[jax.Array]:
  """Returns two views' projections, [pairs, DIMENSIONS] each."""
  keys = jax.random.split(jax.random.key(0))
  return [jax.random.normal(key, (pairs, DIMENSIONS)) for key in keys]


def main() -> None:
  """Prints, for each batch size, temporary memory and ratios of speed."""
  for pairs in (1024, 4096, 8192):
    z = embeddings(pairs)
    ours, *others = (
      (form.__name__, functools.partial(compiled(form, pairs), *z))
      for form in (by_pairs, by_rows, dense)
    )
    for (name, theirs), target in zip(others, (2.5, None), strict=True):
      timing.compare(
        f'{pairs:,} pairs, beside {name}',
        ours[1],
        theirs,
        items=1,
        rounds=5,
        target=target if pairs == 8192 else None,
      )
  pairs = 65_536
  call = compiled(by_pairs, pairs)
  seconds = timing.seconds(functools.partial(call, *embeddings(pairs)))
  print(f'{pairs:,} pairs, by_pairs: {seconds:.0f} seconds, once')


if __name__ == '__main__':
  command_line.set_up_cpu(1)
  main()
