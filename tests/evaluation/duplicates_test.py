"""Groups of near-duplicates against brute force, and of files."""

import numpy as np

from contrastive_jax.evaluation import duplicates


def brute_force(vectors, threshold):
  """Connected components, one pair at a time."""
  unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  first = list(range(len(unit)))
  for i, j in np.argwhere(np.triu(unit @ unit.T >= threshold, 1)):
    low, high = sorted((first[i], first[j]))
    first = [low if f == high else f for f in first]
  return np.array(first)


def test_groups_are_those_of_brute_force(monkeypatch):
  monkeypatch.setattr(duplicates, '_BLOCK', 16)
  rng = np.random.default_rng(1)
  centers = rng.normal(size=(20, 8))
  vectors = centers[rng.integers(0, 20, 150)] + 0.2 * rng.normal(size=(150, 8))
  vectors = np.float32(np.concatenate([vectors, vectors[:7], centers[:1] * 9]))
  for threshold in (0.9, 0.97, 0.999):
    np.testing.assert_array_equal(
      duplicates.components(vectors, threshold),
      brute_force(vectors, threshold),
    )
  copies = duplicates.components(vectors, 1.0)
  np.testing.assert_array_equal(copies[150:157], np.arange(7))
  # One point, as of an encoder that has collapsed; and none at all.
  assert not duplicates.components(np.ones((100, 4), np.float32), 0.98).any()
  np.testing.assert_array_equal(
    duplicates.components(np.zeros((40, 4), np.float32), 0.5), np.arange(40)
  )


def test_copies_and_links_of_files(tmp_path):
  for name, text in {'a': 'x', 'b': 'y', 'c': 'x', 'd': 'longer'}.items():
    (tmp_path / name).write_text(text)
  (tmp_path / 'e').symlink_to('b')
  (tmp_path / 'f').symlink_to('e')  # a link to a link
  (tmp_path / 'g').symlink_to('nowhere')
  paths = [str(tmp_path / name) for name in 'abcd']
  assert duplicates.copies([*paths, str(tmp_path / 'gone')]) == {2: 0}
  found = duplicates.links(str(tmp_path), paths)
  assert found == {str(tmp_path / 'e'): 1, str(tmp_path / 'f'): 1}
  # A link that is an image itself is in its group as a copy.
  paths.append(str(tmp_path / 'e'))
  assert duplicates.copies(paths) == {2: 0, 4: 1}
