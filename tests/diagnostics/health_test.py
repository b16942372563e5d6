import math

import pytest

from contrastive_jax.diagnostics import health


@pytest.mark.parametrize(
  ('report', 'expected'),
  [
    (dict(loss=3.0, embedding_spread=0.99), 'ok'),
    (dict(loss=6.2, embedding_spread=0.99), 'at chance'),
    (dict(loss=9.0, embedding_spread=0.99), 'at chance'),
    # All embeddings alike: the loss is at chance too, the cause is named.
    (dict(loss=6.238, embedding_spread=0.0), 'collapsed'),
    (dict(loss=3.0), 'ok'),  # an objective that does not measure the spread
    (dict(loss=math.nan, embedding_spread=0.99), 'not finite'),
  ],
)
def test_verdict(report, expected):
  assert health.verdict({**report, 'chance_loss': math.log(512)}) == expected
