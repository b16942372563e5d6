"""Predicting a crop's prototypes from other crops: SwAV's loss, DINO's too."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks, gather
from contrastive_jax.losses._sinkhorn import sinkhorn


def swav(
  scores: Sequence[jax.Array],
  *,
  temperature: float,
  epsilon: float = 0.05,
  iterations: int = 3,
  queue_scores: Sequence[jax.Array] | None = None,
  use_queue: bool | jax.Array = True,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the cross entropy of codes and the predictions of other crops.

  With scores s_v of crop v and codes q_i = sinkhorn(s_i) of the first two,

    mean over i in {0, 1}, v != i and samples n of
      -sum_k q_i[n, k] log softmax(s_v[n] / T)[k]

  The codes carry no gradient. Nothing is normalized here: scores are cosines.

  Args:
    scores: of V >= 2 crops, [b, K] each, of embeddings with prototypes; the
      first two are of the crops that are assigned, local crops follow.
    temperature: T.
    epsilon: see `sinkhorn`, also for iterations.
    iterations: 0 breaks it.
    queue_scores: [q, K] for each of the first two, of earlier samples, which
      take part in the codes' equal shares; the same on every replica.
    use_queue: whether they do so yet; may be traced. False gives what
      queue_scores=None gives.
    axis_name: the mapped axis over whose replicas the batch is spread. The
      value is the mean over this replica's samples: its mean over replicas, and
      the mean of its gradients, are those of one device with the whole batch.

  Returns:
    float32 scalar. ln K for constant scores.

  Raises:
    ValueError: shapes do not fit, there are fewer than two crops or not two
      queues, or the temperature or epsilon is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> scores = [jnp.zeros((4, 5))] * 3  # constant: ln 5
    >>> loss = losses.swav(scores, temperature=0.1)
    >>> print(f'{float(loss):.4f}')
    1.6094

  Reference:
    Caron et al. 2020 (arXiv 2006.09882), equations 1 and 2, and section 3.2
    (multi-crop); swav main_swav.py. The paper's equation 1 adds the two terms
    where the code, as here, takes their mean.
  """
  checks.length('swav', 'scores', scores, least=2)
  arrays = checks.each('scores', scores, 'b K')
  if queue_scores is not None:
    checks.length('swav', 'queue_scores', queue_scores, least=2, most=2)
    arrays |= checks.each('queue_scores', queue_scores, 'q K')
  checks.shapes('swav', **arrays)
  checks.positive('swav', temperature=temperature, epsilon=epsilon)
  codes = []
  for i in range(2):
    options: Any = dict(
      epsilon=epsilon, iterations=iterations, axis_name=axis_name
    )
    code = sinkhorn(scores[i], **options)
    if queue_scores is not None:
      with_queue = sinkhorn(scores[i], queue_scores=queue_scores[i], **options)
      # Both are made: a condition would have to be agreed on by the replicas,
      # which meet within each.
      code = jnp.where(use_queue, with_queue, code)
    codes.append(code)
  logits = [s.astype(jnp.float32) / temperature for s in scores]
  return cross_prediction(logits, codes)


def cross_prediction(
  logits: Sequence[jax.Array], targets: Sequence[jax.Array]
) -> jax.Array:
  """Returns the mean cross entropy of each target with all other views' logits.

    mean over i < len(targets), v != i and samples n of
      -sum_k targets[i][n, k] log softmax(logits[v][n])[k]

  Args:
    logits: of V views, [b, K] each.
    targets: of the first of these views, [b, K] each, distributions over K. No
      gradient reaches them.

  Returns:
    float32 scalar: the mean over this replica's samples. ln K for constant
    logits.

  Reference:
    swav main_swav.py; dino main_dino.py, DINOLoss.
  """
  total, pairs = jnp.zeros(()), 0
  for v, logit in enumerate(logits):
    others = [target for i, target in enumerate(targets) if i != v]
    if others:
      log_p = jax.nn.log_softmax(logit.astype(jnp.float32))
      # One product for all of them: the cross entropy is linear in its target.
      target = jax.lax.stop_gradient(sum(others[1:], others[0]))
      total -= jnp.mean(jnp.sum(target * log_p, axis=-1))
      pairs += len(others)
  return total / pairs


def assignment_statistics(
  logits: jax.Array, *, axis_name: str | None = None
) -> dict[str, jax.Array]:
  """Returns whether assignments to prototypes tell samples apart.

  With p_n = softmax(logits_n) over K prototypes, p their mean over the N rows
  of all replicas, and H the entropy in nats, the mutual information of sample
  and prototype is

    I = H(p) - mean_n H(p_n)  <=  ln min(K, N).

  It vanishes in both ways to collapse: when all samples take the same few
  prototypes, the usage H(p) falls to H(p_n); when every sample is spread over
  all prototypes alike, H(p_n) rises to H(p), though the usage is then at its
  highest. Small differences between samples change I by their square, so that
  the gauge has its root, as a spread is the root of a variance.

  Args:
    logits: [n, K], of assignments that are not made equal in shares: Sinkhorn's
      codes use all prototypes even when the scores do not.
    axis_name: the mapped axis over whose replicas the rows are spread.

  Returns:
    float32 scalars without gradient, the same on every replica: entropy (mean
    H(p_n), nats), prototype_usage_entropy (H(p), nats), and collapse_gauge,
    sqrt(I / ln min(K, N)): 0 collapsed, 1 a prototype for each sample. Healthy
    runs begin at 0.2 to 0.7, may halve in their first hundred steps, when views
    do not agree yet and predictions become cautious, and rise from then on.
  """
  logits = jax.lax.stop_gradient(logits).astype(jnp.float32)
  log_p = jax.nn.log_softmax(logits)
  p = jnp.exp(log_p)
  entropy = gather.mean(-jnp.mean(jnp.sum(p * log_p, axis=-1)), axis_name)
  usage = gather.mean(jnp.mean(p, axis=0), axis_name)
  usage_entropy = -jnp.sum(jax.scipy.special.xlogy(usage, usage))
  rows, prototypes = logits.shape
  if axis_name is not None:
    rows *= jax.lax.axis_size(axis_name)
  share = (usage_entropy - entropy) / math.log(max(2, min(prototypes, rows)))
  return {
    'entropy': entropy,
    'prototype_usage_entropy': usage_entropy,
    'collapse_gauge': jnp.sqrt(jnp.clip(share, 0.0, 1.0)),
  }
