"""Linear probe whose result does not depend on a hand-picked learning rate."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.evaluation import features as features_lib

# Both relative to the features' curvature (see `fit_probe`), so that one grid
# covers features of any scale and dimension: from barely moving to diverging,
# and from unregularized to the classifier of the nearest class mean.
LEARNING_RATES = (0.3, 1.0, 3.0, 10.0)
WEIGHT_DECAYS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_MOMENTUM = 0.9
# Few examples make few steps an epoch: there are at least so many in all.
_LEAST_STEPS = 500
# With so many examples held out one split ranks the pairs; with fewer they are
# ranked by cross-validation, repeated where even that leaves few predictions.
_ENOUGH = 1000
_FOLDS = 5
_REPEATS = 2


class Probe(NamedTuple):
  """A linear classifier of standardized features, and how it was chosen."""

  weights: np.ndarray  # [D, C]
  bias: np.ndarray  # [C]
  mean: np.ndarray  # [D], of the training features
  std: np.ndarray  # [D]
  learning_rate: float  # as it stands in the grid
  weight_decay: float  # as it stands in the grid
  validation_accuracy: float  # of this pair, on training data held out
  accuracy: float | None = None  # on the test data; None: not measured

  def predict(self, features: np.ndarray) -> np.ndarray:
    """Returns the classes, int32 [N], of features [N, D]."""
    weights = self.weights / self.std[:, None]
    logits = features @ weights + (self.bias - self.mean @ weights)
    return logits.argmax(axis=1).astype(np.int32)


def linear_probe(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  test_labels: np.ndarray,
  *,
  num_classes: int,
  seed: int = 0,
  learning_rates: Sequence[float] = LEARNING_RATES,
  weight_decays: Sequence[float] = WEIGHT_DECAYS,
  epochs: int = 30,
  batch_size: int = 512,
  validation_share: float = 0.1,
) -> Probe:
  """Fits a probe by `fit_probe`, then measures it once on the test data.

  Args:
    train_features: [N, D].
    train_labels: [N], integers in [0, num_classes).
    test_features: [M, D].
    test_labels: [M]; nothing is chosen or fitted by them.
    num_classes: number of classes.
    seed: as for `fit_probe`, and so are the others.
    learning_rates: grid.
    weight_decays: grid.
    epochs: passes over the training data.
    batch_size: examples a step.
    validation_share: held out to choose from the grid.

  Returns:
    The probe, with its accuracy.

  Raises:
    ValueError: features or labels that do not fit, in one sentence.
  """
  features_lib.check(test_features, test_labels, num_classes, 'test')
  if test_features.shape[1] != train_features.shape[-1]:
    raise Error(
      f'test features have {test_features.shape[1]} dimensions, those of the '
      f'training part {train_features.shape[-1]}'
    )
  probe = fit_probe(
    train_features,
    train_labels,
    num_classes=num_classes,
    seed=seed,
    learning_rates=learning_rates,
    weight_decays=weight_decays,
    epochs=epochs,
    batch_size=batch_size,
    validation_share=validation_share,
  )
  correct = probe.predict(test_features) == test_labels
  return probe._replace(accuracy=float(np.mean(correct)))


def fit_probe(
  features: np.ndarray,
  labels: np.ndarray,
  *,
  num_classes: int,
  seed: int = 0,
  learning_rates: Sequence[float] = LEARNING_RATES,
  weight_decays: Sequence[float] = WEIGHT_DECAYS,
  epochs: int = 30,
  batch_size: int = 512,
  validation_share: float = 0.1,
  standardize: bool = True,
) -> Probe:
  """Fits multinomial logistic regression; training data choose everything.

  Features are standardized, or only centered. For every pair of learning rate
  and weight decay a head is trained, all at once (one matrix product a step),
  from zero, by SGD with Nesterov momentum 0.9 and a cosine to 0. The pair with
  the best accuracy on examples held out, of equals the one with the lowest loss
  there, is fitted again to all examples.

  Held out is a stratified `validation_share`. If that is fewer than 1000
  examples, stratified 5-fold cross-validation takes its place, its folds being
  heads of the same training; it is done twice, with other folds, if there are
  fewer than 1000 examples in all.

  A learning rate r stands for r / L and a weight decay w for w L, where L is
  the largest eigenvalue of the standardized features' covariance. The gradient
  of the loss is Lipschitz with L / 2, so beyond r = 7.6 the worst case diverges
  (Nesterov, large batches); heads that do are never chosen. The decay acts on
  the weights, not on the bias.

  The standardized features lie on one device: 4 N D bytes.

  Args:
    features: [N, D], any float dtype.
    labels: [N], integers in [0, num_classes).
    num_classes: number of classes.
    seed: of the split and of the order of the examples.
    learning_rates: grid, relative as said above.
    weight_decays: grid, relative as said above.
    epochs: passes over the training data; at least 500 steps are made.
    batch_size: examples a step.
    validation_share: held out to choose from the grid.
    standardize: whether every feature is divided by its standard deviation.

  Returns:
    The probe, `accuracy` not yet measured.

  Raises:
    ValueError: features or labels that do not fit, in one sentence.

  Reference: the protocol of SimCLR (2002.05709), appendix B.6, with the sweep
    of BYOL (2006.07733), appendix C.1, made wider and free of the test data.
  """
  features_lib.check(features, labels, num_classes, 'training')
  present = np.unique(labels)
  if len(present) < 2:
    raise Error(
      f'all {len(labels)} training labels are {present[0]}: a probe needs at '
      'least 2 classes'
    )
  labels = np.asarray(labels, np.int32)
  rng = np.random.default_rng(seed)
  mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
  std = features.std(axis=0, dtype=np.float64).astype(np.float32)
  # Constant features are left as they are, instead of magnified rounding.
  std = np.where(std > 1e-5 * std.max(), std, 1).astype(np.float32)
  if not standardize:
    std = np.ones_like(std)
  inputs = (features - mean) / std
  axes = None
  if 4 * len(inputs) <= inputs.shape[1]:
    # Few examples in many dimensions: gradients never leave the examples' span,
    # so training in an orthonormal basis of it is the same, with N dimensions.
    u, s, axes = np.linalg.svd(inputs, full_matrices=False)
    inputs = u * s

  curvature = _largest_eigenvalue(inputs, rng)
  pairs = [(r, w) for r in learning_rates for w in weight_decays]
  rates = np.array([r / curvature for r, _ in pairs], np.float32)
  decays = np.array([w * curvature for _, w in pairs], np.float32)
  held_out = _held_out(labels, validation_share, rng)
  # The number of rows is rounded up, so that few sizes are ever compiled.
  batch = min(batch_size, features_lib.power_of_two(len(labels)))
  rounding = max(batch, features_lib.power_of_two(len(labels)) // 16)
  rows = -(-len(labels) // rounding) * rounding
  epochs = max(epochs, -(-_LEAST_STEPS * batch // rows))
  inputs = jnp.asarray(_padded(inputs, rows))
  targets = jnp.asarray(_padded(labels, rows))
  key = jax.random.key(seed)

  def train(kept, rates, decays):
    # Weighted so that the loss of a batch estimates the mean over kept rows.
    weights = kept * (rows / kept.sum(axis=0, keepdims=True))
    return _train(
      inputs,
      targets,
      _padded(weights.astype(np.float32), rows),
      rates,
      decays,
      epochs,
      key,
      num_classes=num_classes,
      batch=batch,
    )

  weights, bias = train(~held_out, rates, decays)
  accuracy, loss = _score(
    weights,
    bias,
    inputs,
    targets,
    _padded(held_out.astype(np.float32), rows),
    batch,
  )
  accuracy, loss = np.asarray(accuracy), np.asarray(loss)
  accuracy = np.where(np.isfinite(loss), accuracy, -1)
  best = np.lexsort((loss, -accuracy))[0]

  everything = np.ones((len(labels), 1), bool)
  weights, bias = (
    np.asarray(array)[..., 0]
    for array in train(everything, rates[best, None], decays[best, None])
  )
  return Probe(
    weights=weights if axes is None else axes.T @ weights,
    bias=bias,
    mean=mean,
    std=std,
    learning_rate=pairs[best][0],
    weight_decay=pairs[best][1],
    validation_accuracy=float(accuracy[best]),
  )


def few_labels(
  labels: np.ndarray, per_class: int, *, seed: int = 0
) -> np.ndarray:
  """Chooses a class-balanced subset.

  Args:
    labels: [N], integers.
    per_class: examples of each class that occurs.
    seed: subsets of different seeds are disjoint as long as a class has
      examples enough: (seed + 1) * per_class of them.

  Returns:
    Indices in rising order, int64 [classes * per_class].

  Raises:
    ValueError: a class has too few examples, or there are no labels.
  """
  if np.any(np.asarray(labels) == -1):
    raise Error(
      f'{np.sum(np.asarray(labels) == -1)} of {len(labels)} examples have no '
      'label'
    )
  rng = np.random.default_rng(0)
  chosen = []
  for c in np.unique(labels):
    members = rng.permutation(np.flatnonzero(labels == c))
    if per_class > len(members):
      raise Error(
        f'class {c} has {len(members)} examples, fewer than the {per_class} '
        'labels per class asked for'
      )
    place = (seed * per_class + np.arange(per_class)) % len(members)
    chosen.append(members[place])
  return np.sort(np.concatenate(chosen))


@functools.partial(jax.jit, static_argnames=('num_classes', 'batch'))
def _train(
  inputs, targets, weights, rates, decays, epochs, key, *, num_classes, batch
):
  """Trains heads [D, C, H]; H runs over splits (slow) and pairs (fast)."""
  rows, dim = inputs.shape
  splits = weights.shape[1]
  steps = rows // batch
  rates, decays = jnp.tile(rates, splits), jnp.tile(decays, splits)

  def loss_fn(heads, x, y, w):
    log_p = jax.nn.log_softmax(_logits(heads[0], heads[1], x), axis=1)
    log_p = jnp.take_along_axis(log_p, y[:, None, None], axis=1)[:, 0]
    return -jnp.sum(jnp.repeat(w, len(rates) // splits, axis=1) * log_p) / batch

  def epoch(number, carry):
    order = jax.random.permutation(jax.random.fold_in(key, number), rows)

    def step(carry, place):
      heads, trace = carry
      at = jax.lax.dynamic_slice_in_dim(order, place * batch, batch)
      grads = jax.grad(loss_fn)(heads, inputs[at], targets[at], weights[at])
      grads = (grads[0] + decays * heads[0], grads[1])
      done = (number * steps + place) / (epochs * steps)
      rate = rates * 0.5 * (1 + jnp.cos(jnp.pi * done))
      trace = jax.tree.map(lambda g, m: g + _MOMENTUM * m, grads, trace)
      heads = jax.tree.map(
        lambda p, g, m: p - rate * (g + _MOMENTUM * m), heads, grads, trace
      )
      return (heads, trace), None

    return jax.lax.scan(step, carry, jnp.arange(steps))[0]

  start = (
    jnp.zeros((dim, num_classes, len(rates))),
    jnp.zeros((num_classes, len(rates))),
  )
  return jax.lax.fori_loop(0, epochs, epoch, (start, start))[0]


@functools.partial(jax.jit, static_argnames='batch')
def _score(weights, bias, inputs, targets, held_out, batch):
  """Returns accuracy and mean loss [pairs] on the rows held out [N, splits]."""

  def add(start):
    x, y, held = (
      jax.lax.dynamic_slice_in_dim(a, start, batch)
      for a in (inputs, targets, held_out)
    )
    logits = _logits(weights, bias, x)
    loss = -jnp.take_along_axis(
      jax.nn.log_softmax(logits, axis=1), y[:, None, None], axis=1
    )[:, 0]
    correct = logits.argmax(axis=1) == y[:, None]
    # Sums over the rows of each split, [splits, pairs].
    both = jnp.stack([correct.astype(jnp.float32), loss])
    both = both.reshape(2, batch, held.shape[1], -1)
    return jnp.sum(jnp.where(held[..., None] > 0, both, 0), axis=(1, 2))

  sums = jax.lax.map(add, jnp.arange(0, len(inputs), batch)).sum(axis=0)
  return sums / held_out.sum()


def _logits(weights, bias, x):
  """Returns [N, C, H]: heads last, where they fill the vector units."""
  dim, classes, heads = weights.shape
  # Full float32: TPUs and GPUs would round the products to fewer bits.
  product = jnp.matmul(
    x,
    weights.reshape(dim, classes * heads),
    precision=jax.lax.Precision.HIGHEST,
  )
  return product.reshape(len(x), classes, heads) + bias


def _held_out(
  labels: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
  """Returns which examples each split holds out, bool [N, splits]."""
  if not 0 < share <= 0.5:
    raise Error(f'validation_share {share} is not in (0, 0.5]')
  if share * len(labels) >= _ENOUGH:
    return _folds(labels, round(1 / share), rng)[:, :1]
  repeats = _REPEATS if len(labels) < _ENOUGH else 1
  folds = [_folds(labels, _FOLDS, rng) for _ in range(repeats)]
  return np.concatenate(folds, axis=1)


def _folds(
  labels: np.ndarray, number: int, rng: np.random.Generator
) -> np.ndarray:
  """Deals each class evenly to the folds, bool [N, number]."""
  shuffled = rng.permutation(len(labels))
  by_class = shuffled[np.argsort(labels[shuffled], kind='stable')]
  fold = np.empty(len(labels), np.int64)
  fold[by_class] = np.arange(len(labels)) % number
  return fold[:, None] == np.arange(number)


def _largest_eigenvalue(x: np.ndarray, rng: np.random.Generator) -> float:
  """Estimates it for x^T x / N by power iteration on at most 8192 rows."""
  x = x[rng.permutation(len(x))[:8192]]
  v = rng.normal(size=x.shape[1]).astype(x.dtype)
  value = 0.0
  for _ in range(30):
    v = x.T @ (x @ (v / max(np.linalg.norm(v), 1e-30))) / len(x)
    value = float(np.linalg.norm(v))
  return max(value, 1e-12)


def _padded(array: np.ndarray, rows: int) -> np.ndarray:
  return np.pad(array, [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1))
