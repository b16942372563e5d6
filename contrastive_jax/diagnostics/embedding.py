"""How a batch of embeddings lies in its space: the numbers behind a verdict."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# Rows that are looked at: their singular values take about 10 ms.
ROWS = 256


def fetch(embeddings: Sequence[jax.Array], mesh: Mesh) -> list[np.ndarray]:
  """Returns the global batch's first rows, the same ones in every process.

  Args:
    embeddings: [B, d] a view, or [devices, B / devices, d]; spread over the
      mesh.
    mesh: of all devices.

  Returns:
    [min(B, 256), d] a view.
  """
  return jax.device_get(_first_rows(mesh)(tuple(embeddings)))


@functools.cache
def _first_rows(mesh: Mesh) -> Any:
  return jax.jit(
    lambda views: tuple(v.reshape(-1, v.shape[-1])[:ROWS] for v in views),
    out_shardings=NamedSharding(mesh, P()),
  )


def statistics(views: Sequence[np.ndarray]) -> dict[str, float]:
  """Returns the spread, the rank and the uniformity of embeddings.

  With u = z / ||z|| and n rows of d dimensions, of the first view:

  Args:
    views: [n, d] each, not normalized; row i of each is of the same image.

  Returns:
    embedding_std: mean over dimensions of the standard deviation of u.
    embedding_spread: that, times sqrt(d): 1 for an even spread over the sphere,
      0 for one point (Chen & He 2020, arXiv 2011.10566, 4.1).
    effective_rank: exp of the entropy of the singular values of u less its
      mean, each over their sum (Roy & Vetterli 2007); at most min(n - 1, d).
    rankme: the same of z as it is, neither normalized nor centered, with the
      paper's 1e-7 (Garrido et al. 2022, arXiv 2210.02885), which takes 25,600
      rows where these are few: at most min(n, d).
    mean_cosine: of u of two different images.
    uniformity: log of the mean of exp(-2 ||u - u'||^2) over pairs of images: 0
      for one point, near -4 for an even spread (Wang & Isola 2020, 2005.10242).
    alignment: mean squared distance of the u of an image's first two views;
      only where there are two.
    All NaN where an embedding is not finite.
  """
  z = np.asarray(views[0], np.float64)
  u = _normalized(z)
  n, d = u.shape
  std = u.std(axis=0).mean()
  gram = u @ u.T
  cosines = gram[~np.eye(n, dtype=bool)]
  result = {
    'embedding_std': std,
    'embedding_spread': std * np.sqrt(d),
    'effective_rank': _rank(u - u.mean(axis=0), 0.0),
    'rankme': _rank(z, 1e-7),
    'mean_cosine': cosines.mean(),
    'uniformity': np.log(np.exp(4 * (cosines - 1)).mean()),
  }
  if len(views) > 1:
    other = _normalized(np.asarray(views[1], np.float64))
    result['alignment'] = np.square(u - other).sum(axis=1).mean()
  return {k: float(v) for k, v in result.items()}


def effective_rank(z: np.ndarray) -> float:
  """Returns the effective rank of rows: that of `statistics`, of any number.

  Args:
    z: [n, d].

  Returns:
    Of z / ||z|| less its mean; between 1 and min(n - 1, d).
  """
  u = _normalized(np.asarray(z, np.float64))
  return _rank(u - u.mean(axis=0), 0.0)


def _normalized(z: np.ndarray) -> np.ndarray:
  return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def _rank(x: np.ndarray, epsilon: float) -> float:
  """Entropy, its exponential, of the singular values over their sum."""
  if not np.isfinite(x).all():
    return float('nan')
  # Eigenvalues of the smaller product are ten times cheaper than singular
  # values, and in float64 exact enough down to 1e-8 of the largest.
  product = x @ x.T if x.shape[0] < x.shape[1] else x.T @ x
  singular = np.sqrt(np.maximum(np.linalg.eigvalsh(product), 0.0))
  share = singular / max(singular.sum(), 1e-300) + epsilon
  share = share[share > 0]
  return float(np.exp(-(share * np.log(share)).sum()))
