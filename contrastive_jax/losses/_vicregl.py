"""VICRegL's loss: VICReg of whole views, and of places in them that match."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from contrastive_jax.losses import checks
from contrastive_jax.losses._vicreg import spread


def vicregl(
  embeddings: Sequence[jax.Array],
  maps: Sequence[jax.Array],
  centers: Sequence[jax.Array],
  *,
  alpha: float = 0.75,
  similarity_weight: float = 25.0,
  variance_weight: float = 25.0,
  covariance_weight: float = 1.0,
  matches: tuple[int, int] = (20, 4),
  all_by_feature: bool = True,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns alpha x the loss of views + (1 - alpha) x that of places in them.

  Both are VICReg's three terms. Of views: the similarity of each of the first
  two with every other, variance and covariance of each. Of places: for each
  pair of a first view and another one, the places of either are matched with
  their nearest in the other, once by their features and once by where they are
  in the image; VICReg of what is matched, over the batch, a match at a time.

  Args:
    embeddings: [b, d] of each view, the two global ones first.
    maps: [b, places, e] of each view, in the same order.
    centers: [b, places, 2], where the places are in their image, pixels.
    alpha: share of the loss of views.
    similarity_weight: see `vicreg`, also for the next two.
    variance_weight: a number.
    covariance_weight: a number.
    matches: of the nearest pairs of places so many are taken: from the first
      view to the other, and back. No more than there are.
    all_by_feature: whether by features all places of a view are matched.
    axis_name: see `vicreg`.

  Returns:
    float32 scalar; the mean over replicas, and of their gradients, is that of
    one device with the whole batch.

  Raises:
    ValueError: shapes that differ, or fewer than two views.

  Example:
    >>> import jax.numpy as jnp
    >>> from contrastive_jax import losses
    >>> z, m = jnp.ones((4, 8)), jnp.ones((4, 6, 3))  # constant: variance alone
    >>> c = jnp.zeros((4, 6, 2))
    >>> print(f'{float(losses.vicregl((z, z), (m, m), (c, c))):.2f}')
    30.94

  Reference:
    Bardes et al. 2022 (VICRegL, arXiv 2210.01571), equations 1 to 6;
    main_vicregl.py. There covariances are halved, as variances are; and as
    first released (1345219) the loss of places that is trained is that of the
    last pair of views, divided by the number of pairs. Since d14c226 it is
    their mean, as in the paper, in lightly and here.
  """
  loss, _ = vicregl_and_terms(
    embeddings,
    maps,
    centers,
    alpha=alpha,
    similarity_weight=similarity_weight,
    variance_weight=variance_weight,
    covariance_weight=covariance_weight,
    matches=matches,
    all_by_feature=all_by_feature,
    axis_name=axis_name,
  )
  return loss


def vicregl_and_terms(
  embeddings: Sequence[jax.Array],
  maps: Sequence[jax.Array],
  centers: Sequence[jax.Array],
  *,
  alpha: float = 0.75,
  similarity_weight: float = 25.0,
  variance_weight: float = 25.0,
  covariance_weight: float = 1.0,
  matches: tuple[int, int] = (20, 4),
  all_by_feature: bool = True,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `vicregl` and the terms that it is made of.

  Args:
    embeddings: see `vicregl`, also for the others.
    maps: a sequence.
    centers: a sequence.
    alpha: a number.
    similarity_weight: a number.
    variance_weight: a number.
    covariance_weight: a number.
    matches: two numbers.
    all_by_feature: a switch.
    axis_name: see `vicreg`.

  Returns:
    The loss, and float32 scalars without gradient: view_loss and place_loss,
    without alpha, and mean_std, the mean standard deviation of embeddings.

  Raises:
    ValueError: see `vicregl`.
  """
  checks.length('vicregl', 'embeddings', embeddings, least=2)
  checks.shapes('vicregl', **checks.each('embeddings', embeddings, 'b d'))
  for i, (m, c) in enumerate(zip(maps, centers, strict=True)):
    at = {f'maps[{i}]': (m, 'b p e'), f'centers[{i}]': (c, 'b p t')}
    checks.shapes('vicregl', **at)
  weights = jnp.array([similarity_weight, variance_weight, covariance_weight])

  def weighted(terms):
    return jnp.sum(weights * terms)

  z = [x.astype(jnp.float32) for x in embeddings]
  pairs = [(i, j) for i in range(2) for j in range(len(z)) if i != j]
  similarity = _mean(jnp.mean(jnp.square(z[i] - z[j])) for i, j in pairs)
  variances, covariances, stds = zip(
    *(_spread(x[:, None], axis_name) for x in z), strict=True
  )
  views = weighted(
    jnp.stack([similarity, _mean(variances), _mean(covariances)])
  )
  float_maps = [m.astype(jnp.float32) for m in maps]
  places = weighted(
    _mean_terms(
      _of_places(
        (float_maps[i], float_maps[j]),
        (centers[i], centers[j]),
        matches,
        all_by_feature,
        axis_name,
      )
      for i, j in pairs
    )
  )
  loss = alpha * views + (1 - alpha) * places
  terms = {'view_loss': views, 'place_loss': places, 'mean_std': _mean(stds)}
  return loss, jax.lax.stop_gradient(terms)


def _mean(values):
  return jnp.mean(jnp.stack(list(values)))


def _mean_terms(values):
  return jnp.mean(jnp.stack(list(values)), axis=0)


def _spread(x, axis_name):
  """`spread` of [b, ranks, d]: the mean over ranks."""
  of_each = jax.vmap(lambda z: spread(z, axis_name), in_axes=1)(x)
  return tuple(map(jnp.mean, of_each))


def _of_places(maps, centers, matches, all_by_feature, axis_name):
  """The three terms of a pair of views, by features plus by location."""
  total = jnp.zeros(3)
  for points, between, taken in (
    (maps, _by_feature, (None, None) if all_by_feature else matches),
    (centers, _by_location, matches),
  ):
    for here, there, number in ((0, 1, taken[0]), (1, 0, taken[1])):
      x, y = _matched(
        maps[here], maps[there], points[here], points[there], number, between
      )
      spreads = [_spread(z, axis_name)[:2] for z in (x, y)]
      variance, covariance = (
        _mean(values) for values in zip(*spreads, strict=True)
      )
      similarity = jnp.mean(jnp.square(x - y))
      total += jnp.stack([similarity, variance, covariance]) / 2
  return total


def _by_feature(a, b):
  product = jnp.einsum(
    'bpe,bqe->bpq', a, b, precision=jax.lax.Precision.HIGHEST
  )
  squared = [jnp.sum(jnp.square(p), axis=-1) for p in (a, b)]
  return squared[0][:, :, None] + squared[1][:, None] - 2 * product


def _by_location(a, b):
  # Places on grids are often equally far from two others. Rounded, so that the
  # first of these is taken, and not the one that the last bit prefers, which
  # changes with the number of devices.
  squared = jnp.square(a[:, :, None] - b[:, None])
  return jnp.round(jnp.sum(squared, axis=-1), 2)


def _matched(x, y, points_x, points_y, number, between):
  """Of places of x the `number` nearest to one of y, in order; and those of y.

  The choice has no gradient.
  """
  a, b = (jax.lax.stop_gradient(p) for p in (points_x, points_y))
  distance = between(a, b)
  nearest = jnp.argmin(distance, axis=2)
  matched = jnp.take_along_axis(y, nearest[..., None], axis=1)
  if number is None or number >= x.shape[1]:
    return x, matched
  order = jnp.argsort(jnp.min(distance, axis=2), axis=1, stable=True)
  chosen = jnp.sort(order[:, :number], axis=1)[..., None]
  return tuple(jnp.take_along_axis(z, chosen, axis=1) for z in (x, matched))


def centers_of(
  places: jax.Array, rows: int, columns: int, *, mirrored: bool = True
) -> jax.Array:
  """Returns where the places of a view's map are in the image.

  Args:
    places: [b, 5]: top, left, height and width of the view in its image, and 1
      where it is mirrored.
    rows: of the map.
    columns: of the map.
    mirrored: whether mirrored views are seen as such (the official code by
      default forgets it).

  Returns:
    float32 [b, rows * columns, 2]: row and column of each center, pixels.
  """
  top, left, height, width, flipped = (places[:, i, None] for i in range(5))
  row = (jnp.arange(rows) + 0.5) / rows
  column = (jnp.arange(columns) + 0.5) / columns
  column = jnp.where((flipped > 0) & mirrored, 1 - column, column)
  y, x = top + height * row, left + width * column
  shape = (len(places), rows, columns)
  both = (
    jnp.broadcast_to(y[:, :, None], shape),
    jnp.broadcast_to(x[:, None], shape),
  )
  return jnp.stack(both, axis=-1).reshape(len(places), -1, 2)
