import gzip
import pathlib

import numpy as np
import pytest
import sklearn.datasets
import sklearn.linear_model

from contrastive_jax.evaluation import linear, logistic

_FASHION = pathlib.Path('/usr/share/datasets/fashion-mnist')


def _digits():
  images, labels = sklearn.datasets.load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(images))
  images = images[order].astype(np.float32) / 16
  labels = labels[order].astype(np.int32)
  return images[:1200], labels[:1200], images[1200:], labels[1200:]


def _fashion(part, total):
  images = gzip.open(_FASHION / f'{part}-images-idx3-ubyte.gz').read()
  labels = gzip.open(_FASHION / f'{part}-labels-idx1-ubyte.gz').read()
  images = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
  # 2x2 means: 196 dimensions are enough for the comparison, and faster.
  images = images[:total].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
  labels = np.frombuffer(labels, np.uint8, offset=8)[:total]
  return images.reshape(-1, 196).astype(np.float32), labels.astype(np.int32)


def _sklearn_accuracy(train, labels, test, test_labels, c):
  """Returns scikit-learn's; c is what its cross-validation chooses here."""
  mean, std = train.mean(axis=0), train.std(axis=0)
  std[std == 0] = 1
  model = sklearn.linear_model.LogisticRegression(C=c, max_iter=1000)
  model.fit((train - mean) / std, labels)
  return model.score((test - mean) / std, test_labels)


def test_reaches_sklearn_on_digits():
  data = _digits()
  probe = linear.linear_probe(*data, num_classes=10)
  # 0.9749 with both when this was written; 0.005 is 2 images.
  assert probe.accuracy >= _sklearn_accuracy(*data, c=0.1) - 0.005
  assert abs(probe.validation_accuracy - probe.accuracy) < 0.03


@pytest.mark.skipif(not _FASHION.exists(), reason='Fashion-MNIST is not there')
def test_reaches_sklearn_on_fashion_mnist():
  data = (*_fashion('train', 2000), *_fashion('t10k', 10_000))
  probe = linear.linear_probe(*data, num_classes=10)
  # 0.8038 here and 0.8041 there when this was written.
  assert probe.accuracy >= _sklearn_accuracy(*data, c=0.1) - 0.003


def test_few_labels_in_many_dimensions_need_strong_decay():
  # 40 examples in 2000 dimensions, of which 20 tell the two classes apart.
  rng = np.random.default_rng(0)
  labels = np.arange(1040) % 2
  features = rng.normal(size=(1040, 2000)).astype(np.float32)
  features[:, :20] += 3 * (2 * labels[:, None] - 1)
  train, test = np.arange(40), np.arange(40, 1040)
  probe = linear.linear_probe(
    features[train], labels[train], features[test], labels[test], num_classes=2
  )
  assert probe.accuracy > 0.9
  assert probe.weights.shape == (2000, 2)
  # Any scale and offset of the features is the same problem.
  moved = linear.fit_probe(
    features[train] * 1e4 + 50, labels[train], num_classes=2
  )
  same = moved.predict(features[test] * 1e4 + 50)
  assert np.mean(same == probe.predict(features[test])) > 0.99


def test_test_labels_choose_nothing():
  train, labels, test, test_labels = _digits()
  part = slice(0, 100)
  kwargs = dict(num_classes=10, weight_decays=(1e-3, 1e-2))
  honest, poisoned = (
    linear.linear_probe(train[part], labels[part], test, y, **kwargs)
    for y in (test_labels, (test_labels + 1) % 10)
  )
  np.testing.assert_array_equal(honest.weights, poisoned.weights)
  np.testing.assert_array_equal(honest.bias, poisoned.bias)
  assert honest.accuracy > 0.8 > 0.2 > poisoned.accuracy


def test_splits_hold_out_each_class_evenly():
  rng = np.random.default_rng(0)
  labels = rng.permutation(np.repeat(np.arange(4), 5000))
  held_out = linear._held_out(labels, 0.1, rng)
  assert held_out.shape == (20_000, 1)
  np.testing.assert_array_equal(np.bincount(labels[held_out[:, 0]]), 500)
  labels = np.repeat(np.arange(10), 10)
  held_out = linear._held_out(labels, 0.1, rng)
  assert held_out.shape == (100, 10)
  np.testing.assert_array_equal(held_out.sum(axis=1), 2)  # once a repetition
  for split in held_out.T:
    np.testing.assert_array_equal(np.bincount(labels[split]), 2)


def test_few_labels():
  labels = np.random.default_rng(0).integers(0, 4, 200)
  first, again, other = (
    linear.few_labels(labels, 10, seed=s) for s in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert not set(first) & set(other)
  for chosen in (first, other):
    np.testing.assert_array_equal(np.bincount(labels[chosen]), 10)
  # Seeds beyond the disjoint ones still give distinct examples.
  assert len(set(linear.few_labels(labels, 30, seed=1234))) == 120
  with pytest.raises(ValueError, match='class 0 has .* fewer than the 100'):
    linear.few_labels(labels, 100)


def test_bad_input():
  features = np.ones((10, 3), np.float32)
  labels = np.arange(10) % 2

  def fit(features=features, labels=labels):
    linear.fit_probe(features, labels, num_classes=2)

  with pytest.raises(ValueError, match='all 10 training labels are 1'):
    fit(labels=np.ones(10, int))
  with pytest.raises(ValueError, match='10 of 10 training .* no label'):
    fit(labels=np.full(10, -1))
  with pytest.raises(ValueError, match='label 2 is not between 0 and 1'):
    fit(labels=np.full(10, 2))
  with pytest.raises(ValueError, match='10 features but 9 labels'):
    fit(labels=labels[:9])
  broken = features.copy()
  broken[:2, 1] = np.inf
  with pytest.raises(ValueError, match='2 of 10 training features contain'):
    fit(features=broken)


def test_features_that_are_all_alike_have_a_probe():
  features = np.full((100, 5), 3, np.float32)
  labels = np.arange(100) % 2
  probe = linear.fit_probe(features, labels, num_classes=2)
  assert np.isfinite(probe.weights).all() and np.isfinite(probe.bias).all()


def test_a_head_that_could_not_be_fitted_is_not_chosen(monkeypatch):
  rng = np.random.default_rng(0)
  labels = np.arange(200) % 2
  features = (rng.normal(size=(200, 5)) + labels[:, None]).astype(np.float32)
  fit = logistic.fit_path

  def spoiled(*args, **kwargs):
    weights, bias = fit(*args, **kwargs)
    return weights.at[:-1].set(np.nan), bias

  monkeypatch.setattr(linear.logistic, 'fit_path', spoiled)
  probe = linear.fit_probe(features, labels, num_classes=2)
  assert probe.weight_decay == min(linear.WEIGHT_DECAYS)
  assert np.isfinite(probe.weights).all()
