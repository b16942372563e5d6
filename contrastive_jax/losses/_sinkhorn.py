"""Sinkhorn's iterations: codes that use every prototype equally."""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks

# The logarithm of what does not count; finite, so that it can be added to.
_NOTHING = -1e30


def sinkhorn(
  scores: jax.Array,
  *,
  epsilon: float,
  iterations: int = 3,
  queue_scores: jax.Array | None = None,
  valid: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns soft codes of a batch that give every prototype an equal share.

  From Q_nk = exp(s_nk / epsilon) the iterations go

    Q_nk <- Q_nk / sum_n Q_nk     each prototype gets the same total
    Q_nk <- Q_nk / sum_k Q_nk     each sample's code sums to 1

  toward the code that maximizes sum Q s + epsilon entropy(Q) among those with
  equal totals. Sums over samples are over all replicas' rows and the queue's.
  All of it is in the logarithm, in float32 and without a gradient: no score
  overflows.

  Args:
    scores: s, [b, K], of this replica's samples.
    epsilon: smoothness; 0.05 in the paper, larger is nearer to uniform.
    iterations: 0 leaves softmax(s / epsilon): nothing keeps one prototype from
      taking all samples then.
    queue_scores: [q, K] of earlier samples, the same on every replica; they
      count once in the totals, and their codes are not returned.
    valid: bool [b], which rows are samples: the others count nothing in the
      totals. None: all.
    axis_name: the mapped axis over whose replicas the batch is spread. None:
      this replica's rows are all there are.

  Returns:
    float32 [b, K]; every row sums to 1. Constant scores give 1/K everywhere.

  Raises:
    ValueError: shapes do not fit, or epsilon is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> scores = jnp.array([[0.9, 0.1], [0.9, 0.1]])  # both like the first
    >>> codes = losses.sinkhorn(scores, epsilon=0.05)
    >>> print(f'{float(codes[0, 0]):.4f} {float(codes[0, 1]):.4f}')
    0.5000 0.5000

  Reference:
    Caron et al. 2020 (SwAV, arXiv 2006.09882), section 3.1 and appendix A;
    swav main_swav.py, distributed_sinkhorn, whose factors 1/K and B cancel.
    Cuturi 2013 (arXiv 1306.0895).
  """
  arrays = {'scores': (scores, 'b K')}
  if queue_scores is not None:
    arrays['queue_scores'] = (queue_scores, 'q K')
  if valid is not None:
    arrays['valid'] = (valid, 'b')
  checks.shapes('sinkhorn', **arrays)
  checks.positive('sinkhorn', epsilon=epsilon)
  log_q = jax.lax.stop_gradient(scores).astype(jnp.float32) / epsilon
  log_queue = None
  if queue_scores is not None:
    log_queue = jax.lax.stop_gradient(queue_scores).astype(jnp.float32)
    log_queue /= epsilon
  for _ in range(iterations):
    counted = log_q
    if valid is not None:
      counted = jnp.where(valid[:, None], log_q, _NOTHING)
    log_total = _log_sum_over_rows(counted, axis_name)
    if log_queue is not None:
      log_total = jnp.logaddexp(log_total, _log_sum_over_rows(log_queue, None))
      log_queue = jax.nn.log_softmax(log_queue - log_total)
    log_q = jax.nn.log_softmax(log_q - log_total)
  return jax.nn.softmax(log_q)


def _log_sum_over_rows(x: jax.Array, axis_name: str | None) -> jax.Array:
  """[n, K] to [K]: log of the sum of exp over the rows of all replicas."""
  largest = jnp.max(x, axis=0)
  if axis_name is not None:
    largest = jax.lax.pmax(largest, axis_name)
  total = jnp.sum(jnp.exp(x - largest), axis=0)
  if axis_name is not None:
    total = jax.lax.psum(total, axis_name)
  return largest + jnp.log(total)
