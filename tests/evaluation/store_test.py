"""Chunks on the disk: one writer at a time."""

import numpy as np
import pytest

from contrastive_jax.evaluation.store import Store


def test_two_commands_at_once(tmp_path):
  first, second = (Store(tmp_path / 'part', {'a': 1}) for _ in range(2))
  ones = np.ones((3, 2)), np.ones(3), np.arange(3)
  first.append(*ones, images=3, unreadable=[])
  for _ in range(2):  # while it is being written, and after
    with pytest.raises(ValueError, match='written by another process'):
      second.append(*ones, images=3, unreadable=[])
    first.close()
  third = Store(tmp_path / 'part', {'a': 1})
  third.append(*ones, images=4, unreadable=[3])
  assert len(third.arrays()[0]) == 6 and third.done == 7
  third.remove()
