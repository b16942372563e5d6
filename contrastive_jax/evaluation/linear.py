"""Linear probe with nothing to tune: a decay is chosen, the rest is fitted."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.evaluation import features as features_lib
from contrastive_jax.evaluation import logistic
from contrastive_jax.training import step

# Relative to the features' curvature (see `fit_probe`), so that one path covers
# features of any scale and dimension: from the classifier of the nearest class
# mean to unregularized.
WEIGHT_DECAYS = (1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 1e-5, 0.0)
# With so many examples held out one split ranks the decays; with fewer they are
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
  weight_decay: float  # as it stands in the path
  validation_accuracy: float  # of this one, on training data held out
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
  weight_decays: Sequence[float] = WEIGHT_DECAYS,
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
    weight_decays: to choose from.
    validation_share: held out to choose.

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
    weight_decays=weight_decays,
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
  weight_decays: Sequence[float] = WEIGHT_DECAYS,
  validation_share: float = 0.1,
  standardize: bool = True,
) -> Probe:
  """Fits multinomial logistic regression; training data choose everything.

  Features are standardized, or only centered. For every weight decay a head is
  fitted to convergence (`logistic.fit_path`), without the examples held out and
  with them. Of the latter the one is taken whose decay has the best accuracy on
  the examples held out, of equals the one with the lowest loss there.

  Held out is a stratified `validation_share`. If that is fewer than 1000
  examples, stratified 5-fold cross-validation takes its place; it is done
  twice, with other folds, if there are fewer than 1000 examples in all.

  A weight decay w stands for w L, where L is the largest eigenvalue of the
  standardized features' covariance. It acts on the weights, not on the bias.

  The rows are spread over all devices, of all processes: each of these has to
  call this, with the same features.

  Args:
    features: [N, D], any float dtype.
    labels: [N], integers in [0, num_classes).
    num_classes: number of classes.
    seed: of the split.
    weight_decays: to choose from, relative as said above.
    validation_share: held out to choose.
    standardize: whether every feature is divided by its standard deviation.

  Returns:
    The probe, `accuracy` not yet measured.

  Raises:
    ValueError: features or labels that do not fit, in one sentence.

  Reference: the linear evaluation of SimCLR (2002.05709), appendix B.6, with
    logistic regression for SGD and the choice free of the test data.
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
    # so fitting in an orthonormal basis of it is the same, with N dimensions.
    u, s, axes = np.linalg.svd(inputs, full_matrices=False)
    inputs = u * s

  curvature = _largest_eigenvalue(inputs, rng)
  relative = sorted(weight_decays, reverse=True)
  decays = np.array(relative, np.float32) * curvature
  held_out = _held_out(labels, validation_share, rng)
  # The number of rows is rounded up, so that few sizes are ever compiled.
  rounding = features_lib.power_of_two(len(labels)) // 16 or 1
  rounding = math.lcm(rounding, jax.device_count())
  rows = -(-len(labels) // rounding) * rounding
  # The last split holds nothing out: its heads are the ones to take.
  held_out = np.concatenate([held_out, np.zeros((len(labels), 1), bool)], 1)
  kept = (~held_out / np.sum(~held_out, axis=0)).astype(np.float32)
  mesh = step.make_mesh()
  data = _over_devices(mesh, rows, inputs, labels, kept, held_out)
  heads = logistic.fit_path(*data[:3], decays, num_classes=num_classes)
  scores = logistic.score(*heads, *data[:2], data[3])
  # On every device, for those of other processes cannot be read.
  weights, bias, accuracy, loss = (
    np.asarray(x) for x in step.everywhere(mesh)((*heads, *scores))
  )
  # NaN is a head that could not be fitted: features that are all alike, say.
  accuracy = np.where(np.isfinite(loss), accuracy, -1)
  best = np.lexsort((loss, -accuracy))[0]
  chosen = weights[best, -1].T
  return Probe(
    weights=chosen if axes is None else axes.T @ chosen,
    bias=bias[best, -1],
    mean=mean,
    std=std,
    weight_decay=relative[best],
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


def _over_devices(
  mesh: jax.sharding.Mesh, rows: int, *arrays: np.ndarray
) -> list[jax.Array]:
  """Pads them to so many rows, and spreads these over the devices."""
  by_rows = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec(*mesh.axis_names)
  )

  def spread(array):
    lack = [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1)
    padded = np.pad(array, lack)
    return jax.make_array_from_callback(
      padded.shape, by_rows, padded.__getitem__
    )

  return [spread(array) for array in arrays]
