"""The losses against others' code: experiments/golden, on random rows.

Where a factor stands here, or an option, the two are not the same:
contrastive_jax/objectives/README.md says what differs.
"""

import pathlib

import jax
import numpy as np
import pytest

from contrastive_jax import losses

FOLDER = pathlib.Path(__file__).with_name('golden')


def _queue(queries, keys, queue):
  units = (losses.l2_normalize(x) for x in (queries, keys, queue))
  return losses.queue_info_nce(*units, temperature=0.2)[0]


def _nnclr(neighbors, predictions):
  units = (losses.l2_normalize(x) for x in (neighbors, predictions))
  return losses.batch_info_nce(*units, temperature=0.1)[0]


def _ibot(student, teacher, center, masked):
  targets = jax.nn.softmax((teacher - center) / 0.07)
  return losses.ibot(student, targets, masked, temperature=0.1)


def _mae(predicted, images):
  # Patches of 4 x 4: row, column, channel. The first two are seen.
  n = len(images)
  patches = images.reshape(n, 3, 2, 4, 2, 4).transpose(0, 2, 4, 3, 5, 1)
  targets = losses.normalize_patches(patches.reshape(n, 4, 48))
  return losses.mae(predicted[:, 2:], targets[:, 2:])


def _simcse(*z):
  return losses.simcse(*z, temperature=0.05)[0]


# By file: ours of the same inputs.
OURS = {
  'nt_xent': lambda z_a, z_b: losses.nt_xent(z_a, z_b, temperature=0.5),
  'dcl': lambda z_a, z_b: losses.dcl(z_a, z_b, temperature=0.1),
  'dclw': lambda z_a, z_b: losses.dcl(
    z_a, z_b, temperature=0.1, weight_sigma=0.5
  ),
  'supcon': lambda views, labels: losses.supcon(
    views, labels, temperature=0.1, base_temperature=0.1
  ),
  'queue_info_nce': _queue,
  'nnclr': _nnclr,
  'byol': losses.normalized_squared_error,
  'simsiam': losses.negative_cosine,
  'barlow_twins_lightly': lambda z_a, z_b: losses.barlow_twins(
    z_a, z_b, redundancy_weight=5e-3
  ),
  'barlow_twins_solo': lambda z_a, z_b: 0.1 * losses.barlow_twins(z_a, z_b),
  'vicreg_lightly': lambda z_a, z_b: losses.vicreg(z_a, z_b),
  'vicreg_solo': lambda z_a, z_b: losses.vicreg(
    z_a, z_b, variance_form='paper'
  ),
  'sinkhorn': lambda scores: losses.sinkhorn(scores, epsilon=0.05),
  'swav': lambda scores: losses.swav(scores, temperature=0.1),
  'dino': lambda student, teacher, center: losses.dino(
    list(student),
    list(teacher),
    center,
    temperature=0.1,
    teacher_temperature=0.04,
  ),
  'ibot': _ibot,
  'koleo': losses.koleo,
  'sigreg': losses.sigreg,
  'lejepa': losses.lejepa,
  'visreg': lambda views, directions: losses.visreg(
    views, directions, weight=0.6
  ),
  'vicregl': lambda embeddings, maps, centers: losses.vicregl(
    embeddings, maps, centers, matches=(6, 2), all_by_feature=False
  ),
  'mae': _mae,
  'simcse': lambda z_a, z_b: _simcse(z_a, z_b),
  'simcse_negatives': lambda z_a, z_b, negatives: _simcse(z_a, z_b, negatives),
  'clip': lambda z_a, z_b, temperature: losses.clip(
    z_a, z_b, temperature=temperature
  ),
  'siglip': lambda z_a, z_b, scale, bias: losses.siglip(
    z_a, z_b, scale=scale, bias=bias
  ),
}


def test_every_file_is_compared():
  assert {path.stem for path in FOLDER.glob('*.npz')} == set(OURS)


@pytest.mark.parametrize('name', OURS)
def test_value_and_gradient_are_theirs(name):
  stored = dict(np.load(FOLDER / f'{name}.npz'))
  value = stored.pop('value')
  gradients = {
    key.removeprefix('gradient_'): stored.pop(key)
    for key in list(stored)
    if key.startswith('gradient_')
  }
  loss = OURS[name]
  np.testing.assert_allclose(loss(**stored), value, rtol=1e-5, atol=1e-6)
  learned = {key: stored.pop(key) for key in gradients}
  if not learned:
    return
  found = jax.grad(lambda inputs: loss(**inputs, **stored))(learned)
  for key, gradient in gradients.items():
    error = np.linalg.norm(found[key] - gradient)
    assert error < 1e-5 * np.linalg.norm(gradient), (key, error)
