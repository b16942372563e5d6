"""iBOT's loss: what is masked is predicted as the teacher sees it."""

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks, gather


def ibot(
  student: jax.Array,
  targets: jax.Array,
  masked: jax.Array,
  *,
  temperature: float,
) -> jax.Array:
  """Returns the cross entropy of teacher and student at masked patches.

    mean over crops of the mean over its masked patches i of
      -sum_k targets[i, k] log softmax(student[i] / T)[k]

  Nothing is gathered, so there is no axis: the mean of the replicas' values,
  and of their gradients, is that of the whole batch.

  Args:
    student: [b, n, K], logits of n patches of each crop.
    targets: [b, n, K], the teacher's distributions at the same patches, which
      it sees. No gradient reaches them.
    masked: bool [b, n], of which patches; a crop without any counts as 0.
    temperature: T.

  Returns:
    float32 scalar. ln K for constant student logits, if each crop has some.

  Raises:
    ValueError: shapes do not fit, or the temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> student = jnp.zeros((2, 3, 5))  # constant: ln 5
    >>> targets = jnp.full((2, 3, 5), 0.2)
    >>> masked = jnp.array([[True, True, False], [True, False, False]])
    >>> loss = losses.ibot(student, targets, masked, temperature=0.1)
    >>> print(f'{float(loss):.4f}')
    1.6094

  Reference:
    Zhou et al. 2021 (iBOT, arXiv 2111.07832), equation 2, as
    dinov2/loss/ibot_patch_loss.py has it, which divides by all crops, masked or
    not: by twice as many, if one of two is.
  """
  checks.shapes(
    'ibot',
    student=(student, 'b n K'),
    targets=(targets, 'b n K'),
    masked=(masked, 'b n'),
  )
  checks.positive('ibot', temperature=temperature)
  log_p = jax.nn.log_softmax(student.astype(jnp.float32) / temperature)
  entropy = -jnp.sum(jax.lax.stop_gradient(targets) * log_p, axis=-1)
  count = jnp.maximum(masked.sum(axis=1), 1)
  return jnp.mean(jnp.sum(jnp.where(masked, entropy, 0), axis=1) / count)


def update_patch_center(
  center: jax.Array,
  teacher: jax.Array,
  masked: jax.Array,
  *,
  momentum: float,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the center moved toward the mean of the teacher at masked patches.

  Args:
    center: float32 [K].
    teacher: [b, n, K], raw logits.
    masked: bool [b, n], the patches that count.
    momentum: the share of the center that stays.
    axis_name: the mapped axis over whose replicas the batch is spread. Every
      patch counts the same; the official code means each GPU's mean.

  Returns:
    float32 [K], the same on every replica; `center` if nothing is masked.

  Raises:
    ValueError: shapes do not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> teacher = jnp.array([[[1.0, 3.0], [9.0, 9.0]]])
    >>> masked = jnp.array([[True, False]])
    >>> print(losses.update_patch_center(
    ...   jnp.zeros(2), teacher, masked, momentum=0.5
    ... ))
    [0.5 1.5]

  Reference: dinov2/loss/ibot_patch_loss.py, update_center.
  """
  checks.shapes(
    'update_patch_center',
    center=(center, 'K'),
    teacher=(teacher, 'b n K'),
    masked=(masked, 'b n'),
  )
  teacher = jax.lax.stop_gradient(teacher).astype(jnp.float32)
  total = jnp.sum(jnp.where(masked[..., None], teacher, 0), axis=(0, 1))
  total = gather.mean(total, axis_name)
  count = gather.mean(jnp.sum(masked.astype(jnp.float32)), axis_name)
  mean = jnp.where(count > 0, total / jnp.maximum(count, 1e-6), center)
  return momentum * center + (1 - momentum) * mean
