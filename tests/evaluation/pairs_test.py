"""Retrieval and rank correlation: oracles, ties, and a run of text."""

import csv
import json

import numpy as np
import pytest
import scipy.stats

from contrastive_jax.config import Error
from contrastive_jax.data import sources
from contrastive_jax.evaluation import retrieval
from contrastive_jax.evaluation.run import evaluate
from contrastive_jax.evaluation.shown import spread
from contrastive_jax.train import pretrain
from experiments import small_configs
from experiments.data import sentences
from tests import tiny
from tests.evaluation import run_helpers

RNG = np.random.default_rng(0)


def test_ranks_by_an_oracle():
  queries, candidates = RNG.normal(size=(30, 5)), RNG.normal(size=(40, 5))
  right = [RNG.choice(40, size=1 + i % 3, replace=False) for i in range(30)]
  found = retrieval.ranks(queries, candidates, right)
  for query, wanted, place in zip(queries, right, found, strict=True):
    cosine = [
      query @ c / np.linalg.norm(query) / np.linalg.norm(c) for c in candidates
    ]
    order = np.argsort(cosine)[::-1]
    wrong = [i for i in order if i not in wanted]
    best = max(cosine[i] for i in wanted)
    assert place == 1 + sum(cosine[i] > best for i in wrong)


def test_a_sentence_is_no_answer_to_itself():
  x = RNG.normal(size=(20, 8))
  # Each is the other's pair, and both stand in both columns.
  x[1::2] = x[::2] + 0.1 * RNG.normal(size=(10, 8))
  right = [{i ^ 1} for i in range(20)]
  assert np.all(retrieval.ranks(x, x, right) == 2)
  assert np.all(retrieval.ranks(x, x, right, [{i} for i in range(20)]) == 1)


def test_what_has_collapsed_finds_nothing():
  same = np.ones((20, 4))
  places = retrieval.ranks(same, same, [[i] for i in range(20)])
  assert np.all(places == 20)
  eye = np.eye(20)
  assert np.all(retrieval.ranks(eye, 3 * eye, [[i] for i in range(20)]) == 1)


def test_a_rank_correlation():
  a = RNG.normal(size=200)
  b = a + RNG.normal(size=200)
  found = retrieval.spearman(a, b)
  value = scipy.stats.spearmanr(a, b).statistic
  assert found.value == pytest.approx(value)
  assert found.low < value < found.high
  # About 2 / sqrt(n) each way, less what lies near the end.
  assert 0.1 < found.high - found.low < 0.3
  assert retrieval.spearman(a, np.exp(a)).value == pytest.approx(1)
  with pytest.raises(Error, match='all alike'):
    retrieval.spearman(a, np.ones(200))
  with pytest.raises(Error, match='at least 4'):
    retrieval.spearman(a[:3], b[:3])


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('text') / 'run'
  config = tiny.shrink(small_configs.load('simcse'))
  config.steps, config.text.views = 4, 'pairs'
  summary = pretrain(config, folder)
  assert set(summary['rows']) == {
    'trained encoder',
    'untrained encoder',
    'bag of words',
  }
  return folder


def test_retrieval_of_a_run(workdir):
  found = evaluate(workdir, ['retrieval'], baselines=True)
  assert not found['failed']
  rows = {(r['representation'], r['metric']): r for r in found['results']}
  assert len(rows) == 3 * 2 * 3
  for (_, metric), row in rows.items():
    assert row['low'] <= row['value'] <= row['high']
    assert metric.startswith('recall@') and metric.endswith(
      ('text to pair', 'pair to text')
    )
  # Several seeds are told apart by metric.
  assert sum('recall@1,' in line for line in spread([found, found])) == 3 * 2


def test_the_bag_of_words_by_scikit_learn(workdir):
  from sklearn.feature_extraction.text import TfidfVectorizer

  source = sources.load(small_configs.text_source())
  made = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
  made.fit(source.train.reader.text)
  a, b = (
    made.transform(column).toarray()
    for column in (source.test.reader.text, source.test.reader.pair)
  )
  similarity = a @ b.T
  own = np.diag(similarity)[:, None]
  # Pairs that are the same word by word are one.
  names = np.array(source.test.reader.pair)
  first = np.unique(names, return_index=True)[1]
  wrong = names[first] != names[:, None]
  places = 1 + ((similarity[:, first] >= own - 1e-6) & wrong).sum(1)
  results = json.loads((workdir / 'evaluation.json').read_text())['results']
  (found,) = (
    r['value']
    for r in results
    if r['representation'] == 'bag of words'
    and r['metric'] == 'recall@5, text to pair'
  )
  assert found == pytest.approx(np.mean(places <= 5))


def test_scores_of_a_run(workdir, tmp_path):
  path = tmp_path / 'scored.csv'
  rows = sentences.rows()[:40]
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['text', 'pair', 'score'])
    writer.writerows([text, pair, 5] for text, pair, _, _ in rows[:20])
    writer.writerows(
      [one[0], other[0], 0]
      for one, other in zip(rows[:20], rows[20:], strict=True)
    )
  found = evaluate(workdir, ['spearman'], transfer=[f'csv:{path}'])
  (row,) = (r for r in found['results'] if r['protocol'] == 'spearman')
  assert row['metric'] == 'spearman' and row['examples'] == 40
  assert -1 <= row['low'] < row['value'] < row['high'] <= 1
  with pytest.raises(Error, match='columns pair and score: there are none'):
    evaluate(workdir, ['spearman'])
  # A pair of which people said 0 is not one to be found.
  own = len(sources.load(small_configs.text_source()).test.reader.pair)
  found = evaluate(workdir, ['retrieval'], transfer=[f'csv:{path}'])
  assert {
    r['data'].split(' test')[0]
    for r in found['results']
    if r['protocol'] == 'retrieval'
  } == {small_configs.text_source()}
  assert own > 2
  with pytest.raises(Error, match='has images, and the run is of text'):
    evaluate(workdir, ['knn'], transfer=['digits'])


def test_pairs_in_both_columns(workdir, tmp_path):
  """What is nearest to a sentence is itself, which is not asked for."""
  path = tmp_path / 'both.csv'
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['text', 'pair'])
    for text, *_ in sentences.rows()[:10]:
      # To a tokenizer of bytes these are nearly the same.
      writer.writerows([[text, f'{text}.'], [f'{text}.', text]])
  found = evaluate(workdir, ['retrieval'], transfer=[f'csv:{path}'])
  (row,) = (
    r
    for r in found['results']
    if r['metric'] == 'recall@1, text to pair' and 'both.csv' in r['data']
  )
  assert row['value'] > 0.8


def test_recall_of_training_pairs_is_said_to_be_that(tmp_path):
  path = tmp_path / 'pairs.csv'
  with open(path, 'w', newline='') as file:
    rows = [row[:2] for row in sentences.rows()[:80]]
    csv.writer(file).writerows([('text', 'pair'), *rows])
  config = tiny.shrink(small_configs.load('simcse', f'csv:{path}'))
  config.steps = 1
  config.evaluation.baselines = False
  pretrain(config, tmp_path / 'run')
  said = []
  evaluate(tmp_path / 'run', ['retrieval'], say=said.append)
  assert any('no test split: retrieval is of training data' in s for s in said)


def test_text_is_fine_tuned(workdir, monkeypatch):
  run_helpers.check_fine_tuning(workdir, monkeypatch)


def test_a_score_that_is_none(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('text,pair,score\na,b,1\nc,d,high\n')
  with pytest.raises(Error, match="a score is 'high', which is no number"):
    sources.load(f'csv:{path}')
