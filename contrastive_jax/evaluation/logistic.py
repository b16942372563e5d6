"""Logistic regression along a path of weight decays, each fitted to its end.

Every head minimizes

    mean_i -log softmax(W x_i + b)[y_i]  +  decay / 2 ||W||^2,

which is convex: no learning rate, no batch, no number of epochs. The Hessian of
the mean is at most half of the features' covariance (Böhning 1992, theorem 1),
so in coordinates in which cov / 2 + decay is the identity all directions are
about as steep, and L-BFGS needs some five passes over the features. From the
strongest decay on, each fit starts at the one before.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

# TPUs and GPUs would round products.
_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
_MEMORY = 10
_STEPS = 100
# Of the gradient's norm, in those coordinates, to that of heads of zeros. A
# head's predictions have long stopped changing.
_TOLERANCE = 1e-2


@functools.partial(jax.jit, static_argnames='num_classes')
def fit_path(
  inputs: jax.Array,
  targets: jax.Array,
  weights: jax.Array,
  decays: jax.Array,
  *,
  num_classes: int,
) -> tuple[jax.Array, jax.Array]:
  """Fits heads of every decay to every split of the rows, in one program.

  Args:
    inputs: float32 [N, D], centered; may be spread over devices by rows.
    targets: int32 [N].
    weights: float32 [N, S], of each row in each split; a column sums to 1.
    decays: float32 [P], from strong to weak.
    num_classes: C.

  Returns:
    Weights float32 [P, S, C, D] and biases [P, S, C].
  """
  rows, dim = inputs.shape
  splits = weights.shape[1]
  covariance = _matmul(inputs.T, inputs) / rows
  largest = jnp.trace(covariance)
  # A split's own covariance is at most so many times that of all rows.
  heavier = rows * jnp.max(weights)
  # The gradient at heads of zeros, [S C, D], and of their biases.
  surprise = weights[:, :, None] * (
    1 / num_classes - jax.nn.one_hot(targets, num_classes)[:, None]
  )
  surprise = surprise.reshape(rows, -1)
  steepest = _matmul(surprise.T, inputs), jnp.sum(surprise, axis=0)

  def fit(start: Any, decay: jax.Array):
    least = 1e-6 * largest + 1e-12  # where features are alike
    bound = heavier / 2 * covariance + (decay + least) * jnp.eye(dim)
    factor = jnp.linalg.cholesky(bound)
    back = jax.scipy.linalg.solve_triangular(factor, jnp.eye(dim), lower=True)

    def loss(v):
      # A row a head, so that the gradient's product is of two row-major
      # matrices: for a column a head a CPU takes twice the time.
      heads = _matmul(v['weights'], back)
      logits = (_matmul(inputs, heads.T) + v['bias']).reshape(
        rows, splits, num_classes
      )
      own = jnp.take_along_axis(logits, targets[:, None, None], axis=-1)
      fitted = weights * (jax.nn.logsumexp(logits, axis=-1) - own[..., 0])
      return jnp.sum(fitted) + decay / 2 * jnp.sum(jnp.square(heads))

    optimizer = optax.lbfgs(
      memory_size=_MEMORY,
      scale_init_precond=False,
      linesearch=optax.scale_by_backtracking_linesearch(
        max_backtracking_steps=20, store_grad=True
      ),
    )
    value_and_grad = optax.value_and_grad_from_state(loss)

    def goes_on(carry):
      _, state, count = carry
      return (count == 0) | (
        (count < _STEPS)
        & (optax.tree.norm(optax.tree.get(state, 'grad')) > limit)
      )

    def step(carry):
      v, state, count = carry
      value, gradient = value_and_grad(v, state=state)
      updates, state = optimizer.update(
        gradient, state, v, value=value, grad=gradient, value_fn=loss
      )
      return optax.apply_updates(v, updates), state, count + 1

    at_zero = _matmul(steepest[0], back.T), steepest[1]
    limit = _TOLERANCE * optax.tree.norm(at_zero)
    # The start, in these coordinates.
    v = {'weights': _matmul(start['weights'], factor), 'bias': start['bias']}
    first: Any = (v, optimizer.init(v), jnp.zeros((), jnp.int32))
    v, _, _ = jax.lax.while_loop(goes_on, step, first)
    found = {'weights': _matmul(v['weights'], back), 'bias': v['bias']}
    return found, found

  start = {
    'weights': jnp.zeros((splits * num_classes, dim)),
    'bias': jnp.zeros(splits * num_classes),
  }
  _, found = cast(Any, jax.lax.scan(fit, start, decays))
  shape = (-1, splits, num_classes)
  return found['weights'].reshape(*shape, dim), found['bias'].reshape(shape)


@jax.jit
def score(
  weights: jax.Array,
  bias: jax.Array,
  inputs: jax.Array,
  targets: jax.Array,
  held_out: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Returns accuracy and mean loss of every decay, on the rows held out.

  Args:
    weights: [P, S, C, D], of `fit_path`.
    bias: [P, S, C], likewise.
    inputs: [N, D].
    targets: int32 [N].
    held_out: bool [N, S], of each split.

  Returns:
    float32 [P] each, over the rows of all splits.
  """

  def of_one(heads):
    w, b = heads
    logits = _matmul(inputs, w.reshape(-1, w.shape[-1]).T).reshape(-1, *b.shape)
    logits += b
    log_p = jnp.take_along_axis(
      jax.nn.log_softmax(logits), targets[:, None, None], axis=-1
    )[..., 0]
    correct = logits.argmax(axis=-1) == targets[:, None]
    count = jnp.sum(held_out)
    return (
      jnp.sum(held_out * correct) / count,
      -jnp.sum(jnp.where(held_out, log_p, 0)) / count,
    )

  return jax.lax.map(of_one, (weights, bias))
