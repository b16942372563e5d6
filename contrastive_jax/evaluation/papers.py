"""The linear probes of the papers, each as published, on cached features.

One head, one learning rate, no choice. The papers crop and flip the training
images anew in every epoch; here the features are those of the whole images,
computed once. And they are made for ResNet-50 on ImageNet, at batches that
small data sets do not have: what they say of another encoder is how much a
probe can depend on its learning rate. `linear.fit_probe` does not.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from contrastive_jax.evaluation import features as features_lib


class Recipe(NamedTuple):
  """A probe as published."""

  learning_rate: float
  batch_size: int
  epochs: int
  scaled: bool = True  # learning_rate x batch_size / 256
  nesterov: bool = False
  milestones: tuple[int, ...] = ()  # epochs at which it is x 0.1; (): cosine
  weight_decay: float = 0.0
  # Of the weights: MoCo's for all but SimCLR's and BYOL's zeros; one layer
  # forgets where it began.
  init_std: float = 0.0
  larc: bool = False


# Sources: the official code of each; lightly's is its benchmark's. Learning
# rates that are not scaled are of any batch.
RECIPES = {
  'simclr': Recipe(0.1, 4096, 90, nesterov=True, weight_decay=1e-6),
  # For CIFAR: the one that was made for small images.
  'simclr_cifar': Recipe(0.1, 512, 100, nesterov=True),
  'moco': Recipe(
    30.0, 256, 100, scaled=False, milestones=(60, 80), init_std=0.01
  ),
  'moco_v3': Recipe(0.1, 1024, 90, init_std=0.01),
  'byol': Recipe(0.2, 4096, 80, nesterov=True),
  'swav': Recipe(0.3, 256, 100, scaled=False, weight_decay=1e-6, init_std=0.01),
  'simsiam': Recipe(0.1, 4096, 90, init_std=0.01, larc=True),
  'barlow_twins': Recipe(
    0.3, 256, 100, scaled=False, weight_decay=1e-6, init_std=0.01
  ),
  'vicreg': Recipe(
    0.02, 256, 100, scaled=False, weight_decay=1e-6, init_std=0.01
  ),
  'dino': Recipe(0.001, 1024, 100, init_std=0.01),
  'lightly': Recipe(0.1, 256, 90, init_std=0.01),
  # solo-learn, ImageNet-100: a rate for each method.
  **{
    f'solo_{method}': Recipe(
      rate, 256, 100, scaled=False, milestones=(60, 80), init_std=0.01
    )
    for method, rate in (
      ('simclr', 1.0),
      ('byol', 0.3),
      ('moco', 3.0),
      ('barlow_twins', 0.1),
    )
  },
}
_MOMENTUM = 0.9
_LARC_TRUST = 1e-3


def predict(
  recipe: Recipe,
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  *,
  num_classes: int,
  seed: int = 0,
) -> np.ndarray:
  """Fits one head to features as they are, and classifies others with it.

  Args:
    recipe: of RECIPES.
    train_features: [N, D].
    train_labels: [N], integers in [0, num_classes).
    test_features: [M, D].
    num_classes: number of classes.
    seed: of the initial weights and the order.

  Returns:
    Predicted classes, int32 [M].

  Raises:
    ValueError: features or labels that do not fit, in one sentence.
  """
  features_lib.check(train_features, train_labels, num_classes, 'training')
  batch = min(recipe.batch_size, len(train_features))
  weights, bias = _train(
    jnp.asarray(train_features),
    jnp.asarray(train_labels, jnp.int32),
    jax.random.key(seed),
    recipe=recipe,
    num_classes=num_classes,
    batch=batch,
  )
  # A head that diverged predicts class 0.
  logits = np.nan_to_num(test_features @ np.asarray(weights) + np.asarray(bias))
  return logits.argmax(axis=1).astype(np.int32)


@functools.partial(jax.jit, static_argnames=('recipe', 'num_classes', 'batch'))
def _train(inputs, targets, key, *, recipe, num_classes, batch):
  steps = len(inputs) // batch
  optimizer = _optimizer(recipe, batch, steps)
  init_key, order_key = jax.random.split(key)
  kernel = recipe.init_std * jax.random.normal(
    init_key, (inputs.shape[1], num_classes)
  )
  head = (kernel, jnp.zeros(num_classes))

  def loss_fn(head, x, y):
    logits = jnp.matmul(x, head[0], precision=jax.lax.Precision.HIGHEST)
    return jnp.mean(
      optax.softmax_cross_entropy_with_integer_labels(logits + head[1], y)
    )

  def step(carry, at):
    head, state = carry
    gradient = jax.grad(loss_fn)(head, inputs[at], targets[at])
    updates, state = optimizer.update(gradient, state, head)
    return (optax.apply_updates(head, updates), state), None

  def epoch(carry, number):
    order_of = jax.random.fold_in(order_key, number)
    order = jax.random.permutation(order_of, len(inputs))
    order = order[: steps * batch].reshape(steps, batch)
    return jax.lax.scan(step, carry, order)[0], None

  carry = (head, optimizer.init(head))
  (head, _), _ = jax.lax.scan(epoch, carry, jnp.arange(recipe.epochs))
  return head


def _optimizer(
  recipe: Recipe, batch: int, steps: int
) -> optax.GradientTransformation:
  rate = recipe.learning_rate * (batch / 256 if recipe.scaled else 1)
  if recipe.milestones:
    schedule = optax.piecewise_constant_schedule(
      rate, {epoch * steps: 0.1 for epoch in recipe.milestones}
    )
  else:
    schedule = optax.cosine_decay_schedule(rate, recipe.epochs * steps)
  return optax.chain(
    optax.add_decayed_weights(recipe.weight_decay),
    optax.scale_by_trust_ratio(trust_coefficient=_LARC_TRUST)
    if recipe.larc
    else optax.identity(),
    optax.sgd(schedule, momentum=_MOMENTUM, nesterov=recipe.nesterov),
  )
