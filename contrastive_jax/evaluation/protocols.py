"""How good are these features? Several protocols, one signature.

Each takes training features with labels and the features of test examples, and
returns what it predicts of these. Nothing here is given a test label.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sklearn.exceptions
import sklearn.linear_model
import sklearn.model_selection

from contrastive_jax.config import Error
from contrastive_jax.evaluation import features, intervals, knn, linear, papers

KNN_NEIGHBORS = (1, 5, 10, 20, 50, 100, 200)
KNN_TEMPERATURES = (0.04, 0.07, 0.1, 0.2)
# Training examples by which k and temperature are chosen, each by all others.
_KNN_JUDGES = 10_000
# Inverse regularization, of scikit-learn, on standardized features.
LBFGS_STRENGTHS = tuple(10.0**power for power in range(-4, 3))
_LBFGS_ITERATIONS = 300
FEW_SUBSETS = 5


class Prediction(NamedTuple):
  """What a protocol says of the test examples."""

  setting: str  # what was chosen, or given
  predicted: np.ndarray  # int32 [M]
  headline: bool = True  # False: one of the grid that was not chosen


def names() -> list[str]:
  """Returns the protocols of frozen features, as the command line has them."""
  return [
    'knn',
    'linear',
    'linear_centered',
    'linear_lbfgs',
    'linear_few',
    *(f'linear_{paper}' for paper in papers.RECIPES),
  ]


def predict(
  protocol: str,
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  *,
  num_classes: int,
  seed: int = 0,
  labels_per_class: int = 10,
) -> list[Prediction]:
  """Predicts the classes of test examples.

  Args:
    protocol: of `names`. `knn`: weighted vote, over k and temperature, the
      best chosen by leaving out one of the training examples. `linear`: a path
      of heads (`linear.fit_probe`); `linear_centered`: the same on features
      that are not divided by their deviation; `linear_lbfgs`: scikit-learn's
      logistic regression, its strength chosen on a tenth of the training data;
      `linear_few`: `linear` on a few labels a class, on five disjoint subsets
      if there are so many;
      `linear_PAPER`: as published, see `papers`.
    train_features: [N, D].
    train_labels: [N], integers in [0, num_classes).
    test_features: [M, D].
    num_classes: number of classes.
    seed: of splits, orders and subsets.
    labels_per_class: of `linear_few`.

  Returns:
    A prediction for each setting that was tried out, or for each subset.

  Raises:
    ValueError: unknown protocol, or features and labels that do not fit.
  """
  features.check(train_features, train_labels, num_classes, 'training')
  features.check_finite(test_features, 'test')
  data = (train_features, train_labels, test_features)
  sizes = {'num_classes': num_classes, 'seed': seed}
  match protocol.split('_', 1):
    case ['knn']:
      return _knn(*data, **sizes)
    case ['linear']:
      return [_probe(*data, **sizes)]
    case ['linear', 'centered']:
      return [_probe(*data, **sizes, standardize=False)]
    case ['linear', 'lbfgs']:
      return [_lbfgs(*data, seed=seed)]
    case ['linear', 'few']:
      found = []
      least = np.unique(train_labels, return_counts=True)[1].min()
      # No more than are disjoint: others would pass for new evidence.
      count = max(1, min(FEW_SUBSETS, least // labels_per_class))
      for subset in range(count):
        chosen = linear.few_labels(
          train_labels, labels_per_class, seed=seed * count + subset
        )
        probe = _probe(
          train_features[chosen],
          train_labels[chosen],
          test_features,
          **sizes,
        )
        setting = f'{labels_per_class} labels a class, subset {subset}: '
        found.append(probe._replace(setting=setting + probe.setting))
      return found
    case ['linear', paper] if paper in papers.RECIPES:
      recipe = papers.RECIPES[paper]
      setting = (
        f'SGD{" with LARC" if recipe.larc else ""}, rate '
        f'{recipe.learning_rate:g}'
        f'{" x batch/256" if recipe.scaled else ""}, batch '
        f'{min(recipe.batch_size, len(train_labels)):,}, '
        f'{recipe.epochs} epochs'
      )
      return [Prediction(setting, papers.predict(recipe, *data, **sizes))]
  raise Error(f'unknown protocol {protocol!r}; there are ' + ', '.join(names()))


def _knn(
  bank, labels, queries, *, num_classes: int, seed: int
) -> list[Prediction]:
  neighbors = [k for k in KNN_NEIGHBORS if k < len(bank)]
  most = neighbors[-1]
  grid = [(k, t) for k in neighbors for t in KNN_TEMPERATURES]
  labels = np.asarray(labels)

  def votes(similarity, index, k, temperature):
    return knn.vote(
      similarity[:, :k], labels[index[:, :k]], num_classes, temperature
    )

  # Each of some training examples is classified by all the others.
  rng = np.random.default_rng(seed)
  judges = np.sort(rng.permutation(len(bank))[:_KNN_JUDGES])
  similarity, index = knn.nearest(bank, bank[judges], k=most + 1)
  others = index != judges[:, None]
  # A copy of itself may stand before it, even so that it is not found.
  others[others.all(axis=1), -1] = False
  similarity, index = (
    array[others].reshape(len(judges), most) for array in (similarity, index)
  )
  accuracy = [
    np.mean(votes(similarity, index, *pair) == labels[judges]) for pair in grid
  ]
  best = int(np.argmax(accuracy))
  similarity, index = knn.nearest(bank, queries, k=most)
  return [
    Prediction(
      f'k={k}, T={t:g}', votes(similarity, index, k, t), number == best
    )
    for number, (k, t) in enumerate(grid)
  ]


def _probe(
  train_features, train_labels, test_features, **options: Any
) -> Prediction:
  probe = linear.fit_probe(train_features, train_labels, **options)
  return Prediction(
    f'decay {probe.weight_decay:g} L',
    probe.predict(test_features),
  )


def _lbfgs(train_features, train_labels, test_features, *, seed) -> Prediction:
  held = max(len(np.unique(train_labels)), len(train_labels) // 10)
  kept, held_out = sklearn.model_selection.train_test_split(
    np.arange(len(train_labels)),
    test_size=held,
    stratify=train_labels,
    random_state=seed,
  )
  accuracy = [
    np.mean(predicted == train_labels[held_out])
    for predicted in lbfgs(
      train_features[kept],
      train_labels[kept],
      train_features[held_out],
      LBFGS_STRENGTHS,
    )
  ]
  strength = LBFGS_STRENGTHS[int(np.argmax(accuracy))]
  (predicted,) = lbfgs(train_features, train_labels, test_features, [strength])
  return Prediction(f'C={strength:g}', predicted)


def lbfgs(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  strengths: Sequence[float],
) -> list[np.ndarray]:
  """Predicts by scikit-learn's logistic regression on standardized features.

  Args:
    train_features: [N, D].
    train_labels: [N].
    test_features: [M, D].
    strengths: C, the inverse of the regularization.

  Returns:
    int32 [M] for each strength.
  """
  mean, std = train_features.mean(axis=0), train_features.std(axis=0)
  std = np.where(std > 1e-5 * std.max(), std, 1)
  train_features, test_features = (
    (x - mean) / std for x in (train_features, test_features)
  )
  predicted = []
  for strength in strengths:
    model = sklearn.linear_model.LogisticRegression(
      C=strength, max_iter=_LBFGS_ITERATIONS
    )
    with warnings.catch_warnings():
      # Features that can be separated have no best weights to converge to.
      warnings.simplefilter('ignore', sklearn.exceptions.ConvergenceWarning)
      model.fit(train_features, train_labels)
    predicted.append(model.predict(test_features).astype(np.int32))
  return predicted


def interval(
  predicted: np.ndarray, labels: np.ndarray
) -> tuple[float, float, float]:
  """Returns the accuracy and its 95 % interval over the examples (Wilson's).

  Args:
    predicted: [M].
    labels: [M].

  Returns:
    Accuracy, lower and upper end of the interval.

  Raises:
    ValueError: an example has no label.
  """
  if unlabeled := int(np.sum(labels < 0)):
    raise Error(f'{unlabeled} of {len(labels)} test examples have no label')
  right = int(np.sum(predicted == labels))
  return right / len(labels), *intervals.wilson(right, len(labels))
