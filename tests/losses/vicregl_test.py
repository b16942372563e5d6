import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses
from contrastive_jax.losses._vicregl import (
  _by_location,
  _matched,
  centers_of,
  vicregl_and_terms,
)
from tests.losses import replicas

RNG = np.random.default_rng(0)


def rows(*shape):
  return RNG.normal(size=shape).astype(np.float32)


# Three views of sixteen images; the last, a local crop, has a smaller map.
PLACES = (9, 9, 4)
EMBEDDINGS = [rows(16, 8) for _ in PLACES]
MAPS = [rows(16, p, 6) for p in PLACES]
CENTERS = [100 * rows(16, p, 2) for p in PLACES]
WEIGHTS = {
  'similarity_weight': 2.0,
  'variance_weight': 3.0,
  'covariance_weight': 0.5,
}


def spread(x):
  """Variance and covariance terms of [n, d], in float64."""
  x = x.astype(np.float64)
  covariance = np.cov(x, rowvar=False)
  std = np.sqrt(np.diag(covariance) + 1e-4)
  off = covariance - np.diag(np.diag(covariance))
  return np.mean(np.maximum(0, 1 - std)), np.sum(off**2) / x.shape[1]


def terms_of_ranks(x, y):
  """Similarity, variance and covariance of matches [n, k, d]."""
  spreads = [
    np.mean([spread(z[:, k]) for k in range(z.shape[1])], axis=0)
    for z in (x, y)
  ]
  return np.array([np.mean((x - y) ** 2), *np.mean(spreads, axis=0)])


def matched(x, y, points_x, points_y, number):
  """One image and place after the other."""
  out = [], []
  for i in range(len(x)):
    distance = np.array(
      [[np.sum((a - b) ** 2) for b in points_y[i]] for a in points_x[i]]
    )
    nearest, least = distance.argmin(axis=1), distance.min(axis=1)
    chosen = sorted(np.argsort(least)[:number])
    out[0].append(x[i][chosen])
    out[1].append(y[i][nearest[chosen]])
  return np.array(out[0]), np.array(out[1])


def oracle(alpha, matches, all_by_feature):
  weights = np.array([2.0, 3.0, 0.5])
  pairs = [(i, j) for i in range(2) for j in range(3) if i != j]
  similarity = np.mean(
    [np.mean((EMBEDDINGS[i] - EMBEDDINGS[j]) ** 2) for i, j in pairs]
  )
  views = weights @ [similarity, *np.mean([spread(z) for z in EMBEDDINGS], 0)]
  places = []
  for i, j in pairs:
    total = np.zeros(3)
    for points, limited in ((MAPS, not all_by_feature), (CENTERS, True)):
      for a, b, number in ((i, j, matches[0]), (j, i, matches[1])):
        number = number if limited else None
        x, y = matched(MAPS[a], MAPS[b], points[a], points[b], number)
        total += terms_of_ranks(x, y) / 2
    places.append(weights @ total)
  return alpha * views + (1 - alpha) * np.mean(places)


@pytest.mark.parametrize('all_by_feature', [True, False])
@pytest.mark.parametrize('alpha', [0.75, 0.0])
def test_equals_the_definition(alpha, all_by_feature):
  value = losses.vicregl(
    EMBEDDINGS,
    MAPS,
    CENTERS,
    alpha=alpha,
    matches=(5, 2),
    all_by_feature=all_by_feature,
    **WEIGHTS,
  )
  expected = oracle(alpha, (5, 2), all_by_feature)
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_with_views_alone_it_is_vicreg_with_half_the_covariance():
  value = losses.vicregl(
    EMBEDDINGS[:2], MAPS[:2], CENTERS[:2], alpha=1.0, covariance_weight=2.0
  )
  expected = losses.vicreg(*EMBEDDINGS[:2])
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_one_place_is_a_view():
  """Maps of one place: matched with the other one, by features and location."""
  maps = [z[:, None] for z in EMBEDDINGS[:2]]
  centers = [c[:, :1] for c in CENTERS[:2]]
  value = losses.vicregl(EMBEDDINGS[:2], maps, centers, alpha=0.0)
  views = losses.vicregl(EMBEDDINGS[:2], maps, centers, alpha=1.0)
  np.testing.assert_allclose(value, 2 * views, rtol=1e-5)


@pytest.mark.parametrize('mapping', ['shard_map', 'pmap'])
def test_eight_devices_are_one(mapping):
  def loss(learned, centers, axis_name=None):
    embeddings, maps = learned[:3], learned[3:]
    return losses.vicregl(
      embeddings, maps, centers, matches=(5, 2), axis_name=axis_name
    )

  learned = (*EMBEDDINGS, *MAPS)
  ours = replicas.value_and_grad(loss, learned, tuple(CENTERS), mapping=mapping)
  whole = jax.value_and_grad(loss)(learned, tuple(CENTERS))
  replicas.assert_same(ours, whole)


def test_the_value_is_made_of_its_terms():
  value, terms = vicregl_and_terms(EMBEDDINGS, MAPS, CENTERS, alpha=0.6)
  expected = 0.6 * terms['view_loss'] + 0.4 * terms['place_loss']
  np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_places_are_where_the_crop_was():
  """Two crops of one image: the same pixel has the same center in both."""
  whole = jnp.array([[0.0, 0, 40, 60, 0]])
  corner = jnp.array([[20.0, 30, 20, 30, 0]])  # its lower right quarter
  in_whole = centers_of(whole, 4, 4).reshape(4, 4, 2)
  in_corner = centers_of(corner, 2, 2).reshape(2, 2, 2)
  np.testing.assert_allclose(in_whole[2:, 2:], in_corner)
  np.testing.assert_allclose(in_whole[0, 0], [5, 7.5])


def test_a_mirrored_crop_has_mirrored_places():
  box = [10.0, 20, 30, 40]
  straight = centers_of(jnp.array([[*box, 0]]), 3, 4).reshape(3, 4, 2)
  mirrored = centers_of(jnp.array([[*box, 1]]), 3, 4).reshape(3, 4, 2)
  np.testing.assert_allclose(mirrored, straight[:, ::-1])
  forgotten = centers_of(jnp.array([[*box, 1]]), 3, 4, mirrored=False)
  np.testing.assert_allclose(forgotten.reshape(3, 4, 2), straight)


def test_of_places_that_are_equally_far_the_first_is_taken():
  """On grids such are common, and the last bit is not to choose."""
  maps = [rows(1, 2, 3), rows(1, 3, 3)]
  points = [
    jnp.array([[[0.1, 0.2], [9.0, 9.0]]]),
    jnp.array([[[4.0, 4.0], [0.1, 0.5], [0.1, -0.1]]]),
  ]

  def matched(shift):
    moved = points[1] + jnp.array([0.0, shift])
    _, y = _matched(*maps, points[0], moved, None, _by_location)
    return y[0, 0]

  for shift in (0.0, 1e-7, -1e-7, 3e-6, -3e-6):
    np.testing.assert_array_equal(matched(shift), maps[1][0, 1])
  np.testing.assert_array_equal(matched(0.2), maps[1][0, 2])
