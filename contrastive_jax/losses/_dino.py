"""DINO's loss: the student predicts the centered, sharpened teacher."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks, gather
from contrastive_jax.losses._swav import cross_prediction


def dino(
  student: Sequence[jax.Array],
  teacher: Sequence[jax.Array],
  center: jax.Array,
  *,
  temperature: float,
  teacher_temperature: float | jax.Array,
) -> jax.Array:
  """Returns the cross entropy of the teacher and the student's other views.

    mean over global views i, all views v != i and samples n of
      -sum_k softmax((t_i[n] - c) / T_t)[k] log softmax(s_v[n] / T_s)[k]

  The teacher carries no gradient. Nothing is gathered, so there is no axis: the
  mean of the replicas' values, and of their gradients, is that of the whole
  batch.

  Args:
    student: s, logits of all views, [b, K] each, the global ones first.
    teacher: t, raw logits of the global views, [b, K] each.
    center: c, [K], of the teacher's logits: without it one prototype takes all.
    temperature: T_s.
    teacher_temperature: T_t; below T_s, or all outputs become uniform. May be
      traced.

  Returns:
    float32 scalar. ln K for constant student logits, whatever the teacher's.

  Raises:
    ValueError: shapes do not fit, there are fewer than two views or more of the
      teacher than of the student, or a temperature is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> student = [jnp.zeros((4, 5))] * 3  # constant: ln 5
    >>> teacher = [jnp.ones((4, 5))] * 2
    >>> loss = losses.dino(
    ...   student,
    ...   teacher,
    ...   jnp.zeros(5),
    ...   temperature=0.1,
    ...   teacher_temperature=0.04,
    ... )
    >>> print(f'{float(loss):.4f}')
    1.6094

  Reference:
    Caron et al. 2021 (arXiv 2104.14294), equations 1 to 3 and algorithm 1; dino
    main_dino.py, DINOLoss. The paper's equation 3 adds the pairs where the
    code, as here, takes their mean.
  """
  checks.length('dino', 'student', student, least=2)
  checks.length('dino', 'teacher', teacher, least=1, most=len(student))
  checks.shapes(
    'dino',
    **checks.each('student', student, 'b K'),
    **checks.each('teacher', teacher, 'b K'),
    center=(center, 'K'),
  )
  checks.positive(
    'dino', temperature=temperature, teacher_temperature=teacher_temperature
  )
  targets = [
    jax.nn.softmax((t.astype(jnp.float32) - center) / teacher_temperature)
    for t in teacher
  ]
  logits = [s.astype(jnp.float32) / temperature for s in student]
  return cross_prediction(logits, targets)


def update_center(
  center: jax.Array,
  teacher: Sequence[jax.Array],
  *,
  momentum: float,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the center moved toward the mean of the teacher's raw logits.

    c <- m c + (1 - m) mean over global views and all replicas' samples of t

  Args:
    center: c, float32 [K].
    teacher: t, [b, K] of each global view.
    momentum: m; 1 leaves the center where it is.
    axis_name: the mapped axis over whose replicas the batch is spread.

  Returns:
    float32 [K], the same on every replica.

  Raises:
    ValueError: shapes do not fit, or the teacher has no view.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> teacher = [jnp.ones((4, 3)), 3 * jnp.ones((4, 3))]  # mean 2
    >>> center = losses.update_center(jnp.zeros(3), teacher, momentum=0.5)
    >>> print(center)
    [1. 1. 1.]

  Reference:
    Caron et al. 2021 (arXiv 2104.14294), equation 4; dino main_dino.py,
    update_center, which is called after the loss.
  """
  checks.length('update_center', 'teacher', teacher, least=1)
  checks.shapes(
    'update_center',
    **checks.each('teacher', teacher, 'b K'),
    center=(center, 'K'),
  )
  rows = jax.lax.stop_gradient(jnp.concatenate(teacher).astype(jnp.float32))
  mean = gather.mean(jnp.mean(rows, axis=0), axis_name)
  return momentum * center + (1 - momentum) * mean
