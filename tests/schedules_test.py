"""Learning rates and weight decay over a run, in closed form."""

import numpy as np
import pytest

from contrastive_jax import config as config_lib
from contrastive_jax import schedules


def optimizer_config(**changes):
  c = config_lib.base().optimizer
  c.update(changes)
  return c


def test_scaling_says_the_sum_it_came_from():
  linear = optimizer_config(base_learning_rate=0.3)
  assert schedules.peak_learning_rate(linear, 512) == (
    pytest.approx(0.6),
    'learning rate 0.3 x 512/256 = 0.6',
  )
  # The two rules of the paper agree at its batch size, 4,096.
  root = optimizer_config(base_learning_rate=0.075, scaling='sqrt')
  assert schedules.peak_learning_rate(root, 4096)[0] == pytest.approx(
    schedules.peak_learning_rate(linear, 4096)[0]
  )


@pytest.mark.parametrize('start,end', [(0.0, 0.0), (0.25, 0.001)])
@pytest.mark.parametrize('warmup', [0, 10, 99])
def test_warmup_then_cosine(warmup, start, end):
  config = optimizer_config(warmup_start=start, final_fraction=end)
  schedule, course = schedules.learning_rate(
    config, 2.0, warmup_steps=warmup, total_steps=100
  )
  assert course.endswith('then cosine to 0.002' if end else 'then cosine to 0')
  assert ('steps from 0.5, ' in course) == (warmup > 0 and start > 0)
  for step in (0, 1, 5, 9, 10, 55, 99, 100):
    if step < warmup:
      expected = 2.0 * (start + (1 - start) * step / warmup)
    else:
      share = (step - warmup) / (100 - warmup)
      expected = 2.0 * (end + (1 - end) * (1 + np.cos(np.pi * share)) / 2)
    np.testing.assert_allclose(schedule(step), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('warmup', [0, 10])
def test_steps(warmup):
  config = optimizer_config(schedule='step', milestones=(0.6, 0.8))
  schedule, course = schedules.learning_rate(
    config, 3.0, warmup_steps=warmup, total_steps=50
  )
  assert course.endswith('then x 0.1 at step 30 and x 0.1 at step 40')
  for step in range(50):
    expected = 3.0 * step / warmup if step < warmup else 3.0
    expected *= 0.1 ** ((step >= 30) + (step >= 40))
    np.testing.assert_allclose(schedule(step), expected, rtol=1e-5)


def test_two_milestones_may_fall_on_one_step_of_a_short_run():
  config = optimizer_config(schedule='step')
  schedule, _ = schedules.learning_rate(
    config, 1.0, warmup_steps=0, total_steps=3
  )
  np.testing.assert_allclose([schedule(1), schedule(2)], [1, 0.01], rtol=1e-5)


def test_a_warmup_longer_than_the_run_is_shortened():
  schedule, course = schedules.learning_rate(
    optimizer_config(warmup_epochs=7), 1.0, warmup_steps=60, total_steps=50
  )
  assert 'of 7 epochs is longer than the run: shortened to 5 steps' in course
  assert schedule(5) == 1.0 and schedule(4) == pytest.approx(0.8)


def test_half_cosine():
  schedule = schedules.half_cosine(0.04, 0.4, 100)
  values = [schedule(step) for step in (0, 50, 75, 100, 120)]
  cosine = np.cos(np.pi * np.array([0, 0.5, 0.75, 1, 1]))
  np.testing.assert_allclose(values, 0.4 - 0.18 * (1 + cosine), rtol=1e-5)


def test_unknown_values_are_refused():
  def refuses(sentence, **changes):
    with pytest.raises(ValueError, match=sentence):
      schedules.learning_rate(
        optimizer_config(**changes), 1.0, warmup_steps=0, total_steps=10
      )

  refuses("not 'poly'", schedule='poly')
  refuses('between 0 and 1, not 120', schedule='step', milestones=(120, 160))
  with pytest.raises(ValueError, match="not 'cubic'"):
    schedules.peak_learning_rate(optimizer_config(scaling='cubic'), 256)
