"""The bound of a trained encoder against the number of negatives."""

import math

import jax
import numpy as np
import pytest

from contrastive_jax.training import build, step
from experiments.theory import negatives
from tests import tiny


def test_bounds_in_closed_form():
  temperature = 0.5
  curve = negatives.bounds(np.eye(12, dtype=np.float32) / temperature, draws=3)
  assert [b.pairs for b in curve] == [2, 4, 8, 12]
  for b in curve:
    loss = math.log(1 + (b.pairs - 1) * math.exp(-1 / temperature))
    assert b.mean == pytest.approx(math.log(b.pairs) - loss, abs=1e-5)
    # All pairs that there are: one draw.
    deviation = math.nan if b.pairs == 12 else 0
    assert b.std == pytest.approx(deviation, abs=1e-5, nan_ok=True)
  # One embedding for all tells nothing.
  curve = negatives.bounds(np.full((4, 4), 2, np.float32))
  assert [b.mean for b in curve] == pytest.approx([0, 0], abs=1e-6)


def test_where_the_bound_leaves_its_ceiling():
  curve = [
    negatives.Bound(k, mean, 0.1) for k, mean in ((2, 0.6), (4, 0.8), (8, 1.0))
  ]
  assert negatives.departure(curve) == curve[1]
  assert 'at K = 4, where it is 0.80 nats and ln K 1.39' in negatives.sentence(
    'e', curve
  )
  assert negatives.departure(curve[:1]) is None
  assert 'up to the 2 pairs' in negatives.sentence('e', curve[:1])


@pytest.mark.parametrize(
  'name, sentence',
  [
    ('byol', 'byol compares no pairs'),
    ('dino', 'dino compares no pairs'),  # its temperature is of prototypes
    ('instance_discrimination', '1 view'),
  ],
)
def test_objectives_without_scores(name, sentence):
  job = build.build(
    tiny.config_of(f'{name}_small'), step.make_mesh(jax.devices()[:1])
  )
  with pytest.raises(ValueError, match=sentence):
    negatives.scores(job, [], job.source.test)
