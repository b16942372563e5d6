import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from contrastive_jax.evaluation import knn


def _data(seed=0, bank=500, queries=130, dim=16, classes=5):
  rng = np.random.default_rng(seed)
  centers = rng.normal(size=(classes, dim))
  labels = rng.integers(0, classes, bank).astype(np.int32)
  features = centers[labels] + 2 * rng.normal(size=(bank, dim))
  query_labels = rng.integers(0, classes, queries).astype(np.int32)
  query = centers[query_labels] + 2 * rng.normal(size=(queries, dim))
  return (
    features.astype(np.float32),
    labels,
    query.astype(np.float32),
    query_labels,
  )


def _oracle(features, labels, queries, classes, k, temperature):
  """Votes with a loop, in float64, on a full sort of all similarities."""
  unit = [
    x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    for x in (queries.astype(np.float64), features.astype(np.float64))
  ]
  predicted = []
  for row in unit[0] @ unit[1].T:
    votes = np.zeros(classes)
    for i in np.argsort(-row, kind='stable')[:k]:
      votes[labels[i]] += np.exp(row[i] / temperature)
    predicted.append(votes.argmax())
  return np.array(predicted)


@pytest.mark.parametrize('chunk', [7, 64, 1000])
def test_equals_oracle_for_any_chunk_and_block(chunk, monkeypatch):
  monkeypatch.setattr(knn, '_BLOCK', 128)  # four blocks, the last partial
  features, labels, queries, query_labels = _data()
  for k, temperature in [(20, 0.07), (200, 0.5)]:  # k beyond a block, too
    expected = _oracle(features, labels, queries, 5, k, temperature)
    predicted = knn.knn_predict(
      features,
      labels,
      queries,
      num_classes=5,
      k=k,
      temperature=temperature,
      chunk=chunk,
    )
    assert predicted.dtype == np.int32
    np.testing.assert_array_equal(predicted, expected)
  accuracy = knn.knn_accuracy(
    features,
    labels,
    queries,
    query_labels,
    num_classes=5,
    k=200,
    temperature=0.5,
  )
  assert accuracy == np.mean(expected == query_labels)


def test_same_search_on_one_and_eight_devices():
  features, labels, queries, _ = _data(bank=300, queries=50)
  mesh_results = [
    knn.nearest(
      features, queries, k=10, mesh=Mesh(np.array(jax.devices()[:n]), ('data',))
    )
    for n in (1, 8)
  ]
  for one, eight in zip(*mesh_results, strict=True):
    np.testing.assert_array_equal(one, eight)


def test_finds_itself_and_first_of_equals():
  features, labels, _, _ = _data(bank=40)
  _, index = knn.nearest(features, features, k=1)
  np.testing.assert_array_equal(index[:, 0], np.arange(40))
  twice = np.concatenate([features, features])
  _, index = knn.nearest(twice, features, k=2)
  np.testing.assert_array_equal(
    index, np.stack([np.arange(40), np.arange(40, 80)], axis=1)
  )
  predicted = knn.knn_predict(
    features, labels, features, num_classes=5, k=1, temperature=1e-3
  )
  np.testing.assert_array_equal(predicted, labels)


def test_zero_huge_and_half_precision_vectors():
  features, labels, queries, _ = _data(bank=60, queries=9)
  features[3] = queries[2] = 0
  expected = _oracle(features, labels, queries, 5, 5, 0.07)
  scaled = knn.knn_predict(
    features * np.float32(1e25),
    labels,
    queries * np.float32(1e-25),
    num_classes=5,
    k=5,
  )
  np.testing.assert_array_equal(scaled, expected)
  similarity, index = knn.nearest(features, queries, k=4)
  np.testing.assert_array_equal(similarity[2], 0)
  np.testing.assert_array_equal(index[2], np.arange(4))
  half = features.astype(np.float16)
  np.testing.assert_array_equal(
    knn.knn_predict(half, labels, queries, num_classes=5, k=5),
    _oracle(half, labels, queries, 5, 5, 0.07),
  )


def test_name():
  assert knn.knn_name(20, 0.07) == 'knn20_cos_t0.07'
  assert knn.knn_name(200, 0.1) == 'knn200_cos_t0.1'


def test_bad_input():
  features, labels, queries, _ = _data(bank=10, queries=3)

  def predict(features=features, labels=labels, queries=queries, k=5):
    knn.knn_predict(features, labels, queries, num_classes=5, k=k)

  with pytest.raises(ValueError, match='k = 11 .* bank of 10'):
    predict(k=11)
  with pytest.raises(ValueError, match='10 of 10 bank .* no label'):
    predict(labels=np.full(10, -1))
  with pytest.raises(ValueError, match='bank label 7 is not between 0 and 4'):
    predict(labels=np.full(10, 7))
  with pytest.raises(ValueError, match='15 dimensions, .* 16'):
    predict(queries=queries[:, :15])
  broken = features.copy()
  broken[4, 2] = np.nan
  with pytest.raises(ValueError, match='1 of 10 bank features contain NaN'):
    predict(features=broken)
