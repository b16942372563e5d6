"""What a run says of its time."""

import pytest

from contrastive_jax.objectives import Run
from contrastive_jax.training import progress

RUN = Run(
  batch_size=4,
  num_examples=40,
  num_classes=None,
  input_shape=(8, 8, 1),
  global_views=2,
  local_crops=0,
  steps_per_epoch=10,
  total_steps=1000,
)


@pytest.mark.parametrize(
  ('minutes', 'seconds', 'steps', 'said'),
  [
    (None, 2.0, 40_000, None),  # less than a day
    (None, 2.0, 90_000, 'An hour is enough for --config.steps=2000;'),
    (30.0, 2.0, 1_300, None),  # 43 minutes: the first steps say no more
    (30.0, 2.0, 2_000, '30 minutes are enough for --config.steps=900;'),
    (30.0, 4e3, 10, '30 minutes are enough for --config.steps=1;'),
  ],
)
def test_what_fits_the_time(minutes, seconds, steps, said):
  text = progress.Meter(RUN, 0, minutes).estimate(seconds, steps)
  assert text.startswith(f'a step takes {seconds:.2g} s: the {steps:,} steps')
  if said is None:
    assert 'enough' not in text
  else:
    assert said in text


@pytest.mark.parametrize(
  ('seconds', 'said'),
  [
    (3.14, '3.1 s'),
    (42, '42 s'),
    (14 * 60, '14 minutes'),
    (3.2 * 3600, '3.2 hours'),
    (2.5 * 86_400, '2.5 days'),
  ],
)
def test_durations(seconds, said):
  assert progress.duration(seconds) == said
