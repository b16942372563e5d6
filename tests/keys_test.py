"""No two purposes of a run share a key."""

import itertools

import jax
import numpy as np

from contrastive_jax import keys


def test_no_two_purposes_share_a_key():
  seed, numbers = 0, range(12)
  found = {'init': keys.of(seed, keys.Purpose.INITIALIZATION)}
  step = keys.of(seed, keys.Purpose.STEP)
  found['step'] = step
  for s in numbers:
    rng = jax.random.fold_in(step, s)  # as the train step has it
    found['step', s] = rng
    for what, number in itertools.product(keys.Draw, range(3)):
      found[what.name, s, number] = keys.draw(rng, what, number)
  for epoch, i, view in itertools.product(range(4), numbers, range(3)):
    key = keys.example(seed, epoch, i, view)
    found['augment', epoch, i, view] = key
    for what in keys.View:
      found[what.name, epoch, i, view] = jax.random.fold_in(key, what)
  data = np.stack([jax.random.key_data(key) for key in found.values()])
  assert len(np.unique(data, axis=0)) == len(found)


def test_the_root_is_no_key_of_a_purpose():
  root = jax.random.key(0)
  # What `split` and a bare `fold_in` of the root would have given.
  others = [root, *jax.random.split(root, 3)]
  step = keys.of(0, keys.Purpose.STEP)
  inside = [jax.random.fold_in(step, i) for i in range(8)]
  for a, b in itertools.product(others[:1], inside):
    assert np.any(jax.random.key_data(a) != jax.random.key_data(b))
