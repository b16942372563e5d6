"""The whole choice of the linear probe, and neighbors, beside scikit-learn.

  python -m experiments.benchmarks.probe

60,000 features of 512 dimensions in 10 classes, and 10,000 queries: made so
that a linear classifier gets most but not all of them right. Ours fits heads
for each weight decay and chooses one, the second time with the compiled program
at hand; scikit-learn fits one logistic regression with its defaults. The
neighbors (k = 20, cosine) are exact on all sides; PyTorch's matrix product and
topk take part if it is installed. One run each: they take long, and differ by
more than the noise. At last, what the same fit takes of memory for ImageNet's
size, computed.
"""

import importlib
import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.linear_model
import sklearn.neighbors
import sklearn.preprocessing

from contrastive_jax.commands import command_line
from contrastive_jax.evaluation import knn, linear, logistic

BANK, QUERIES, DIM, CLASSES, K = 60_000, 10_000, 512, 10, 20


def data() -> tuple[np.ndarray, ...]:
  """Returns features and labels of bank and queries."""
  rng = np.random.default_rng(0)
  means = rng.normal(size=(CLASSES, DIM))
  # Few large directions and many small ones, as features have them.
  scale = 4.0 * np.arange(1, DIM + 1) ** -0.5
  labels = rng.integers(0, CLASSES, BANK + QUERIES)
  noise = rng.normal(size=(BANK + QUERIES, DIM))
  x = ((0.12 * means[labels] + noise) * scale).astype(np.float32)
  return x[:BANK], labels[:BANK], x[BANK:], labels[BANK:]


def timed(name: str, fn: Callable[[], Any]) -> tuple[Any, float]:
  """Prints and returns the seconds that a call takes, and what it returns."""
  began = time.perf_counter()
  result = fn()
  seconds = time.perf_counter() - began
  print(f'{name}: {seconds:.1f} s', flush=True)
  return result, seconds


def main() -> None:
  """Prints times, ratios, and what each gets right."""
  x, y, queries, truth = data()
  heads = len(linear.WEIGHT_DECAYS)
  probe, ours = timed(
    f'{heads} decays, all heads and the choice, compilation included',
    lambda: linear.fit_probe(x, y, num_classes=CLASSES),
  )
  _, again = timed(
    'the same once more',
    lambda: linear.fit_probe(x, y, num_classes=CLASSES),
  )
  scaler = sklearn.preprocessing.StandardScaler().fit(x)
  model, theirs = timed(
    'scikit-learn, one head',
    lambda: sklearn.linear_model.LogisticRegression(max_iter=1000).fit(
      scaler.transform(x), y
    ),
  )
  print(
    f'accuracy {np.mean(probe.predict(queries) == truth):.4f}, scikit-learn '
    f'{model.score(scaler.transform(queries), truth):.4f}; all together '
    f'{ours / theirs:.2f} times its time, compiled {again / theirs:.2f}'
  )

  knn.nearest(x[: 2 * K], queries[:K], k=K)  # the backend starts
  (_, index), ours = timed(
    f'{QUERIES:,} queries, {K} neighbors of {BANK:,}, compilation included',
    lambda: knn.nearest(x, queries, k=K),
  )
  reference, theirs = timed(
    'scikit-learn, brute force',
    lambda: (
      sklearn.neighbors.NearestNeighbors(
        n_neighbors=K, algorithm='brute', metric='cosine'
      )
      .fit(x)
      .kneighbors(queries, return_distance=False)
    ),
  )
  print(f'{_shared(index, reference)}; ratio {theirs / ours:.2f}')
  memory(1_281_167, 2048, 1000)
  if importlib.util.find_spec('torch') is None:
    print('PyTorch is not installed')
    return
  torch: Any = importlib.import_module('torch')

  def by_torch():
    bank, asked = (
      torch.nn.functional.normalize(torch.from_numpy(a)) for a in (x, queries)
    )
    return torch.cat(
      [(part @ bank.T).topk(K).indices for part in asked.split(1024)]
    ).numpy()

  reference, theirs = timed('PyTorch', by_torch)
  print(f'{_shared(index, reference)}; ratio {theirs / ours:.2f}')


def memory(rows: int, dim: int, classes: int) -> None:
  """Prints what the fit takes of each device, without data."""
  mesh = jax.make_mesh(
    (jax.device_count(),), ('rows',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  by_rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('rows'))

  def array(shape, dtype: Any = jnp.float32, sharding: Any = by_rows):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

  rows = -(-rows // jax.device_count()) * jax.device_count()
  of = logistic.fit_path.lower(
    array((rows, dim)),
    array((rows,), jnp.int32),
    array((rows, 2)),
    array((len(linear.WEIGHT_DECAYS),), sharding=None),
    num_classes=classes,
  )
  used: Any = of.compile().memory_analysis()
  print(
    f'{rows:,} x {dim:,}, {classes:,} classes, on each of '
    f'{jax.device_count()} devices: features '
    f'{used.argument_size_in_bytes / 2**30:.1f} GiB, heads '
    f'{used.output_size_in_bytes / 2**30:.1f}, at work '
    f'{used.temp_size_in_bytes / 2**30:.1f}'
  )


def _shared(ours: np.ndarray, theirs: np.ndarray) -> str:
  same = np.mean(np.sort(ours, axis=1) == np.sort(theirs, axis=1))
  return f'{100 * same:.2f} % the same neighbors'


if __name__ == '__main__':
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  main()
