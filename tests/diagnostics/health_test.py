import math

import pytest

from contrastive_jax.diagnostics import health

HEALTHY = dict(
  step=1000, embedding_spread=0.99, effective_rank=40.0, rankme=35.0
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
  verdict = health.verdict(report, total_steps=2000, known=health.VERDICTS)
  assert verdict == expected


def test_a_chance_value_of_zero_has_a_margin_too():
  """SimSiam's loss runs from 0 to -1."""
  for loss, expected in ((-0.005, 'at chance'), (-0.5, 'ok')):
    report = {**HEALTHY, 'loss': loss, 'chance_loss': 0.0}
    assert (
      health.verdict(report, total_steps=2000, known=health.VERDICTS)
      == expected
    )


def test_a_short_run_is_judged_at_its_end():
  for step, expected in ((3, 'ok'), (4, 'at chance')):
    report = {**HEALTHY, 'loss': 6.2, 'chance_loss': 6.2, 'step': step}
    assert (
      health.verdict(report, total_steps=4, known=health.VERDICTS) == expected
    )


def test_an_objective_is_not_given_a_verdict_that_it_does_not_know():
  """Classes pull together on purpose: rank 1 is right for two of them."""
  report = {**HEALTHY, 'effective_rank': 1.0, 'loss': 0.1, 'chance_loss': 0.7}
  known = health.VERDICTS - {'partial collapse'}
  assert health.verdict(report, total_steps=2000, known=known) == 'ok'
