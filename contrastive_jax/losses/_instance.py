"""Instance discrimination: each image is a class, a bank's row its weight.

`losses` has the two losses as `instance_softmax` and `instance_nce`.

The bank [N, d] has one row for each image of the training set, and no gradient.
Each replica holds all of it, so that only its update needs other replicas.
"""

import functools
import math

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks
from contrastive_jax.losses._nt_xent import means
from contrastive_jax.losses.gather import all_rows_replicated, mean
from contrastive_jax.losses.normalize import l2_normalize

# Rows of the bank that are compared at a time: 8 MiB of logits for 256 images,
# where ImageNet's 1.28 million rows would take 1.3 GB.
_BLOCK_ROWS = 8192
# Images whose noise samples are gathered at a time: 64 MiB for 4,096 samples.
_BLOCK_IMAGES = 32
_EPSILON = 1e-7


def full_softmax(
  z: jax.Array, ids: jax.Array, bank: jax.Array, *, temperature: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the cross entropy of each image among all, and statistics.

  With v = z/||z|| and the bank's rows m_1..m_N as they are:

    l_i = -log [ exp(v_i.m_i / T) / sum_{n=1..N} exp(v_i.m_n / T) ]

  averaged over the images. Nothing of another replica takes part, so there is
  no axis: the mean over replicas of this value is that of one device.

  Args:
    z: [b, d], embeddings of this replica's images.
    ids: int [b], their rows of the bank.
    bank: [N, d]. Gets no gradient.
    temperature: T.

  Returns:
    float32 scalar: ln N when all embeddings are alike, the bank's too; and
    float32 scalars without gradient, each a mean over images:
    contrastive_accuracy (share whose own row is the nearest of all), entropy
    (nats, of the softmax), positive_similarity and hardest_negative_similarity
    (cosines, up to the norm of rows that have not been updated yet).

  Raises:
    ValueError: shapes do not fit, or the temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z, ids = jnp.ones((4, 8)), jnp.arange(4)
    >>> bank = losses.l2_normalize(jnp.ones((6, 8)))  # all alike: ln 6
    >>> loss, _ = losses.instance_softmax(z, ids, bank, temperature=0.1)
    >>> print(f'{float(loss):.4f}')
    1.7918

  Reference:
    Wu et al. 2018 (arXiv 1805.01978), equation 2; zhirongw/lemniscate.pytorch,
    lib/LinearAverage.py (nce-k 0).
  """
  checks.shapes(
    'instance_softmax', z=(z, 'b d'), ids=(ids, 'b'), bank=(bank, 'N d')
  )
  checks.positive('instance_softmax', temperature=temperature)
  u, bank = l2_normalize(z), jax.lax.stop_gradient(bank)
  size = min(_BLOCK_ROWS, len(bank))
  block_fn = functools.partial(_bank_block, bank, u, ids, temperature, size)
  # As in NT-Xent: the backward pass makes each block's logits again.
  blocks = jax.lax.map(jax.checkpoint(block_fn), jnp.arange(0, len(bank), size))
  log_normalizer = jax.nn.logsumexp(blocks['log_normalizer'], axis=0)
  positive = jnp.sum(u * bank[ids], axis=-1) / temperature
  share = jnp.exp(blocks['log_normalizer'] - log_normalizer)
  hardest = jnp.max(blocks['hardest'], axis=0)
  statistics = {
    'contrastive_accuracy': (positive > hardest).astype(jnp.float32),
    'entropy': log_normalizer - jnp.sum(share * blocks['expected'], axis=0),
    'positive_similarity': positive * temperature,
    'hardest_negative_similarity': hardest * temperature,
  }
  return jnp.mean(log_normalizer - positive), means(statistics)


def _bank_block(bank, u, ids, temperature, size, start):
  """Sums over the bank's rows from `start` on; one [b] each."""
  # So that the last block is full it begins early; what it shares with the one
  # before it does not count.
  first = jnp.minimum(start, len(bank) - size)
  rows = jax.lax.dynamic_slice_in_dim(bank, first, size)
  index = first + jnp.arange(size)
  logits = jnp.matmul(u, rows.T, precision=jax.lax.Precision.HIGHEST)
  logits = jnp.where(index >= start, logits / temperature, -jnp.inf)
  log_normalizer = jax.nn.logsumexp(logits, axis=-1)
  logits, normalizer = jax.lax.stop_gradient((logits, log_normalizer))
  weighted = jnp.exp(logits - normalizer[:, None]) * logits
  return {
    'log_normalizer': log_normalizer,
    'expected': jnp.sum(weighted, axis=-1, where=index >= start),
    'hardest': jnp.max(
      logits, axis=-1, where=index != ids[:, None], initial=-jnp.inf
    ),
  }


def draw_noise(
  rng: jax.Array, ids: jax.Array, count: int, num_examples: int
) -> jax.Array:
  """Returns uniform rows of the bank for each image, drawn with replacement.

  Args:
    rng: one key for the step, the same on every replica.
    ids: int [b]; an image's draw depends on rng and its id alone.
    count: K.
    num_examples: N, rows of the bank.

  Returns:
    int32 [b, K]; an image's own row may be among them.
  """

  def draw(example_id):
    key = jax.random.fold_in(rng, example_id)
    return jax.random.randint(key, (count,), 0, num_examples)

  return jax.vmap(draw)(ids)


def nce(
  z: jax.Array,
  ids: jax.Array,
  noise: jax.Array,
  bank: jax.Array,
  log_z: jax.Array,
  *,
  temperature: float,
  axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
  """Returns the noise-contrastive estimate of `full_softmax`.

  With v = z/||z||, P(n|i) = exp(v_i.m_n / T) / Z, c = K/N (the noise is
  uniform) and epsilon = 1e-7:

    l_i = -log [ P(i|i) / (P(i|i) + c + epsilon) ]
          - sum_{k=1..K} log [ c / (P(n_ik|i) + c + epsilon) ]

  averaged over the images, summed over their K noise samples. Z is a constant,
  N times the mean of exp(v.m / T) over the first global batch's images and
  their K + 1 rows.

  Args:
    z: [b, d], embeddings of this replica's images.
    ids: int [b], their rows of the bank.
    noise: int [b, K], rows of the bank: `draw_noise`.
    bank: [N, d]. Gets no gradient.
    log_z: float scalar, ln Z; -inf: take it from this batch.
    temperature: T.
    axis_name: the mapped axis; only the estimate of Z needs it. None: this
      replica's images are the whole batch.

  Returns:
    float32 scalar: `nce_chance` where every P is 1/N, as when all embeddings
    are alike; ln Z, the same on every replica; and float32 scalars
    without gradient, each a mean over images: contrastive_accuracy (share
    whose own row is nearer than all noise), positive_similarity and
    hardest_negative_similarity (of the noise that is not the own row).

  Raises:
    ValueError: shapes do not fit, or the temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z, ids = jnp.ones((4, 8)), jnp.arange(4)
    >>> bank = losses.l2_normalize(jnp.ones((10, 8)))
    >>> noise = jnp.full((4, 5), 9)  # all alike: ln(1 + 5) + 5 ln(6 / 5)
    >>> loss, log_z, _ = losses.instance_nce(
    ...   z, ids, noise, bank, jnp.array(-jnp.inf), temperature=0.1
    ... )
    >>> print(f'{float(loss):.4f}')
    2.7034

  Reference:
    Wu et al. 2018 (arXiv 1805.01978), section 3.2; lemniscate.pytorch,
    lib/NCEAverage.py and NCECriterion.py, whose epsilon this is.
  """
  checks.shapes(
    'instance_nce',
    z=(z, 'b d'),
    ids=(ids, 'b'),
    noise=(noise, 'b K'),
    bank=(bank, 'N d'),
    log_z=(log_z, ''),
  )
  checks.positive('instance_nce', temperature=temperature)
  u, bank = l2_normalize(z), jax.lax.stop_gradient(bank)
  slots = jnp.concatenate([ids[:, None], noise], axis=1)
  similarity = jax.lax.map(
    jax.checkpoint(
      lambda row: jnp.matmul(
        bank[row[1]], row[0], precision=jax.lax.Precision.HIGHEST
      )
    ),
    (u, slots),
    batch_size=_BLOCK_IMAGES,
  )
  logits = similarity / temperature
  count, size = noise.shape[1], len(bank)
  estimate = math.log(size) + _log_mean_exp(logits, axis_name)
  log_z = jnp.where(jnp.isneginf(log_z), estimate, log_z)
  # All in logarithms: exp(1/T) overflows below T = 0.0113.
  log_odds = logits - log_z - math.log(count / size + _EPSILON)
  no_epsilon = math.log1p(_EPSILON * size / count)
  per_image = jax.nn.softplus(-log_odds[:, 0]) + jnp.sum(
    jax.nn.softplus(log_odds[:, 1:]) + no_epsilon, axis=1
  )
  positive = similarity[:, 0]
  hardest = jnp.max(
    similarity[:, 1:], axis=1, where=noise != ids[:, None], initial=-1.0
  )
  statistics = {
    'contrastive_accuracy': (positive > hardest).astype(jnp.float32),
    'positive_similarity': positive,
    'hardest_negative_similarity': hardest,
  }
  return jnp.mean(per_image), log_z, means(statistics)


def nce_chance(count: int, num_examples: int) -> float:
  """Returns `nce` where every P is 1/N.

  Without epsilon that is ln(1+K) + K ln((K+1)/K); it adds about epsilon N,
  which is 0.13 for ImageNet.

  Args:
    count: K.
    num_examples: N.
  """
  rest = 1 + _EPSILON * num_examples
  return math.log(count + rest) + count * math.log1p(rest / count)


def _log_mean_exp(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Ln of the mean of exp(x) over all replicas, alike on each; no gradient."""
  x = jax.lax.stop_gradient(x)
  largest = jnp.max(x)
  if axis_name is not None:
    largest = jax.lax.pmax(largest, axis_name)
  return largest + jnp.log(mean(jnp.mean(jnp.exp(x - largest)), axis_name))


def update_bank(
  bank: jax.Array,
  ids: jax.Array,
  z: jax.Array,
  *,
  momentum: float,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the bank with the global batch's rows moved to its embeddings.

  m_i <- (momentum m_i + (1 - momentum) v_i) / ||...||, with v = z/||z||.

  Args:
    bank: [N, d].
    ids: int [b], rows of this replica's images.
    z: [b, d], their embeddings.
    momentum: share of the old row.
    axis_name: the mapped axis; None: this replica's images are all.

  Returns:
    [N, d], the same on every replica, without gradient.

  Reference:
    lemniscate.pytorch, lib/NCEAverage.py: after use, in the backward pass.
  """
  ids = all_rows_replicated(ids, axis_name)
  v = all_rows_replicated(l2_normalize(z), axis_name)
  moved = l2_normalize(momentum * bank[ids] + (1 - momentum) * v)
  # An image that took an unreadable one's place may be in a batch twice; which
  # of two writes wins is not defined, so both write what the later one has.
  order = jnp.arange(len(ids))
  last = jnp.max(jnp.where(ids[:, None] == ids, order, 0), axis=1)
  return bank.at[ids].set(moved[last])
