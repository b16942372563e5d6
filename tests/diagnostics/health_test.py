import math

import numpy as np
import pytest

from contrastive_jax.diagnostics import embedding, health

HEALTHY = dict(
  step=1000, embedding_spread=0.99, effective_rank=40.0, rankme=35.0
)


def judge(report, *, grace_steps=200, largest_rank=255, known=health.VERDICTS):
  return health.verdict(
    report, grace_steps=grace_steps, largest_rank=largest_rank, known=known
  )


@pytest.mark.parametrize(
  ('report', 'expected'),
  [
    (dict(loss=3.0), 'ok'),
    (dict(loss=6.2), 'at chance'),
    (dict(loss=9.0), 'at chance'),
    (dict(loss=6.2, step=100), 'ok'),  # too early to say
    # All embeddings alike: the loss is at chance too, the cause is named.
    (dict(loss=6.238, embedding_spread=0.0), 'collapsed'),
    (dict(loss=3.0, collapse_gauge=0.01), 'collapsed'),
    (dict(loss=3.0, embedding_spread=math.nan), 'collapsed'),
    (dict(loss=3.0, effective_rank=1.5), 'partial collapse'),
    (dict(loss=3.0, rankme=1.5), 'partial collapse'),
    (dict(loss=3.0, embedding_spread=0.2), 'partial collapse'),
    (dict(loss=math.nan), 'not finite'),
  ],
)
def test_verdict(report, expected):
  report = {**HEALTHY, 'chance_loss': math.log(512), **report}
  assert judge(report) == expected


def test_a_chance_value_of_zero_has_a_margin_too():
  """SimSiam's loss runs from 0 to -1."""
  for loss, expected in ((-0.005, 'at chance'), (-0.5, 'ok')):
    report = {**HEALTHY, 'loss': loss, 'chance_loss': 0.0}
    assert judge(report) == expected


def test_a_short_run_is_judged_at_its_end():
  for step, expected in ((3, 'ok'), (4, 'at chance')):
    report = {**HEALTHY, 'loss': 6.2, 'chance_loss': 6.2, 'step': step}
    assert judge(report, grace_steps=health.grace_steps(4)) == expected


def test_an_objective_is_not_given_a_verdict_that_it_does_not_know():
  """Classes pull together on purpose: rank 1 is right for two of them."""
  report = {**HEALTHY, 'effective_rank': 1.0, 'loss': 0.1, 'chance_loss': 0.7}
  known = health.VERDICTS - {'partial collapse'}
  assert judge(report, known=known) == 'ok'


def test_a_run_that_hardly_trains_yet_is_not_judged():
  assert health.grace_steps(9000, idle_steps=(0, 0)) == 200
  assert health.grace_steps(9000, idle_steps=(3000, 468)) == 3000
  assert health.grace_steps(1000, idle_steps=(3000, 0)) == 1000
  assert health.grace_steps(1000, least=4000) == 4000


@pytest.mark.parametrize('shape', [(4, 128), (256, 3), (256, 4)])
def test_few_rows_or_dimensions_are_no_collapse(shape):
  rows = np.random.default_rng(0).normal(size=shape)
  found = embedding.statistics([rows])
  report = {'step': 1000, 'loss': 3.0, 'chance_loss': math.log(512), **found}
  largest_rank = min(shape[0] - 1, shape[1])
  assert judge(report, largest_rank=largest_rank) == 'ok'
  # As for the threshold of many: a line is one.
  line = embedding.statistics([rows[:, :1] * np.ones(shape[1])])
  assert judge({**report, **line}, largest_rank=largest_rank) != 'ok'


def test_text_is_given_time_to_tell_sentences_apart():
  """To a transformer of random weights all of them are nearly alike."""
  assert health.quiet_steps(30, 1000, tokens=False) == 30
  assert health.quiet_steps(30, 1000, tokens=True) == 200
  assert health.quiet_steps(300, 1000, tokens=True) == 300
  assert health.quiet_steps(30, 1000, tokens=False, least=400) == 400
  assert health.quiet_steps(30, 100, tokens=True) == 100  # and then it is said
