import numpy as np
import pytest
import sklearn.datasets
import sklearn.linear_model

from contrastive_jax.evaluation import papers, protocols


def digits():
  """Real data, seconds to fit: 300 training and 200 test digits, as pixels."""
  data, target = sklearn.datasets.load_digits(return_X_y=True)
  data = (data / 16).astype(np.float32)
  return data[:300], target[:300], data[300:500], target[300:500]


def test_knn_chooses_by_leaving_one_out(monkeypatch):
  monkeypatch.setattr(protocols, 'KNN_NEIGHBORS', (1, 5, 50))
  monkeypatch.setattr(protocols, 'KNN_TEMPERATURES', (0.07, 0.5))
  x, y, queries, _ = digits()
  x[7] = x[3]  # a copy may not be taken for the example itself
  # Wrong labels, so that one neighbor is too few: those who vote for
  # themselves would not notice.
  rng = np.random.default_rng(0)
  y = np.where(rng.random(300) < 0.3, rng.integers(0, 10, 300), y)
  found = protocols.predict('knn', x, y, queries, num_classes=10)
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  similarity = unit @ unit.T
  np.fill_diagonal(similarity, -np.inf)
  accuracy = {}
  for k in (1, 5, 50):
    for t in (0.07, 0.5):
      near = np.argsort(-similarity, axis=1, kind='stable')[:, :k]
      votes = np.zeros((len(x), 10))
      for i, row in enumerate(near):
        np.add.at(votes[i], y[row], np.exp(similarity[i, row] / t))
      accuracy[f'k={k}, T={t:g}'] = np.mean(votes.argmax(1) == y)
  assert [p.setting for p in found] == list(accuracy)
  (chosen,) = (p.setting for p in found if p.headline)
  assert accuracy[chosen] == max(accuracy.values())
  assert not chosen.startswith('k=1,')


def test_lbfgs_is_scikit_learns():
  x, y, test_x, test_y = digits()
  (found,) = protocols.predict('linear_lbfgs', x, y, test_x, num_classes=10)
  strength = float(found.setting.removeprefix('C='))
  assert strength in protocols.LBFGS_STRENGTHS
  std = np.where(x.std(0) > 1e-5 * x.std(0).max(), x.std(0), 1)
  model = sklearn.linear_model.LogisticRegression(C=strength, max_iter=300)
  model.fit((x - x.mean(0)) / std, y)
  expected = model.predict((test_x - x.mean(0)) / std)
  np.testing.assert_array_equal(found.predicted, expected)
  assert np.mean(found.predicted == test_y) > 0.85


@pytest.mark.parametrize('name', ['simclr', 'simsiam'])
def test_probes_of_papers_against_a_loop(name):
  x, y, test_x, _ = digits()
  recipe = papers.RECIPES[name]._replace(epochs=10, init_std=0.0)
  found = papers.predict(recipe, x, y, test_x, num_classes=10)
  # Fewer examples than a batch: every epoch is one step of all of them.
  w, b = np.zeros((64, 10)), np.zeros(10)
  trace = [np.zeros_like(w), np.zeros_like(b)]
  for step in range(10):
    logits = x @ w + b
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True) - np.eye(10)[y]
    gradients = [x.T @ p / len(x), p.mean(0)]
    rate = (
      recipe.learning_rate * 300 / 256 * 0.5 * (1 + np.cos(step * np.pi / 10))
    )
    for i, (v, g) in enumerate(zip((w, b), gradients, strict=True)):
      g = g + recipe.weight_decay * v
      if recipe.larc and np.linalg.norm(v) > 0:
        g = g * 0.001 * np.linalg.norm(v) / np.linalg.norm(g)
      trace[i] = g + 0.9 * trace[i]
      v -= rate * (g + 0.9 * trace[i] if recipe.nesterov else trace[i])
  expected = (test_x @ w + b).argmax(1)
  assert np.mean(found == expected) > 0.99  # but for ties of rounding


@pytest.mark.parametrize('per_class, subsets', [(3, 5), (10, 2), (20, 1)])
def test_few_labels_are_disjoint_subsets(per_class, subsets, monkeypatch):
  x, y, test_x, _ = digits()
  assert 20 <= np.bincount(y).min() < 30
  seen = []

  def probe(train_features, train_labels, test_features, **options):
    del train_labels, options
    seen.append({row.tobytes() for row in train_features})
    return protocols.Prediction('', np.zeros(len(test_features), np.int32))

  monkeypatch.setattr(protocols, '_probe', probe)
  for seed in (0, 1):
    protocols.predict(
      'linear_few',
      *(x, y, test_x),
      num_classes=10,
      labels_per_class=per_class,
      seed=seed,
    )
  of_seeds = seen[:subsets], seen[subsets:]
  for of_seed in of_seeds:
    assert len(of_seed) == subsets
    assert len(set.union(*of_seed)) == subsets * 10 * per_class
  assert of_seeds[0] != of_seeds[1]


def test_examples_without_a_label_or_features():
  x, y, queries, truth = digits()
  options = {'num_classes': 10}
  some = np.where(np.arange(len(y)) == 3, -1, y)
  with pytest.raises(ValueError, match='1 of 300 training examples have no'):
    protocols.predict('knn', x, some, queries, **options)
  queries[2, 5] = np.nan
  with pytest.raises(ValueError, match='1 of 200 test features contain NaN'):
    protocols.predict('linear_lbfgs', x, y, queries, **options)
  with pytest.raises(ValueError, match='1 of 200 test examples have no label'):
    protocols.interval(truth, np.where(np.arange(200) == 9, -1, truth))


def test_interval_is_the_bootstraps_but_at_the_ends():
  rng = np.random.default_rng(0)
  labels = np.zeros(400, int)
  predicted = (rng.random(400) < 0.2).astype(int)
  value, low, high = protocols.interval(predicted, labels)
  resampled = rng.integers(0, 400, (20_000, 400))
  accuracies = np.mean(predicted[resampled] == 0, axis=1)
  assert value == np.mean(predicted == 0)
  np.testing.assert_allclose(
    (low, high), np.quantile(accuracies, [0.025, 0.975]), atol=2 / 400
  )
  # Wilson: the low end of n right ones of n is n / (n + z^2).
  value, low, high = protocols.interval(labels, labels)
  assert value == high == 1
  assert low == pytest.approx(400 / (400 + 1.959964**2), abs=1e-6)


def test_unknown_protocol_names_those_there_are():
  x, y, test_x, _ = digits()
  with pytest.raises(ValueError, match="unknown protocol 'linear_x'.*knn, lin"):
    protocols.predict('linear_x', x, y, test_x, num_classes=10)
