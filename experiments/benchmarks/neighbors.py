"""Exact neighbors and all near-duplicates: ours against faiss, in one run.

  python -m experiments.benchmarks.neighbors [--rows=100000] [--dim=128]

faiss-cpu is no dependency: PYTHONPATH may name a folder that has it. What is
compared: the 10 nearest of 10,000 queries (`knn.nearest`; faiss: IndexFlatIP,
exact, and IndexHNSWFlat, which is not, its building included and given apart),
and the groups of all rows joined by a cosine of 0.98 (`duplicates.components`;
faiss: range_search of IndexFlatIP, and scipy's connected components).
"""

import argparse
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse.csgraph

from contrastive_jax.commands import command_line
from contrastive_jax.evaluation import duplicates, knn

K, QUERIES, THRESHOLD = 10, 10_000, 0.98


def data(rows: int, dim: int) -> np.ndarray:
  """Returns vectors of length 1, one in ten near to another one."""
  rng = np.random.default_rng(0)
  # Few large directions and many small ones, as features have them.
  x = rng.normal(size=(rows, dim)) * np.arange(1, dim + 1) ** -0.5
  copies = rng.choice(rows, rows // 10, replace=False)
  noise = 0.01 * rng.normal(size=(len(copies), dim)) / dim**0.5
  x[copies] = x[rng.permutation(rows)[: len(copies)]] + noise
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def timed(name: str, fn: Callable[[], Any]) -> tuple[Any, float]:
  """Prints and returns the seconds that a call takes, and what it returns."""
  began = time.perf_counter()
  result = fn()
  seconds = time.perf_counter() - began
  print(f'{name}: {seconds:.1f} s', flush=True)
  return result, seconds


def main(rows: int, dim: int) -> None:
  """Prints times, ratios, and whether both sides find the same."""
  faiss: Any = None
  if importlib.util.find_spec('faiss') is None:
    print('faiss is not installed: ours alone')
  else:
    faiss = importlib.import_module('faiss')
  x = data(rows, dim)
  queries = x[:: max(1, rows // QUERIES)][:QUERIES]
  print(f'{rows:,} x {dim}, {len(queries):,} queries')
  knn.nearest(x[: 2 * K], queries[:K], k=K)  # the backend starts
  (_, index), ours = timed(
    'ours, compilation included', lambda: knn.nearest(x, queries, k=K)
  )
  groups, ours_all = timed(
    'ours, near-duplicates', lambda: duplicates.components(x, THRESHOLD)
  )
  if faiss is None:
    return

  flat = faiss.IndexFlatIP(dim)
  flat.add(x)
  (_, exact), theirs = timed('faiss, flat', lambda: flat.search(queries, K))
  print(f'{_shared(index, exact)}; ratio {theirs / ours:.2f}')

  def joined():
    ends, _, found = flat.range_search(x, THRESHOLD - 1e-6)
    graph = scipy.sparse.csr_array(
      (np.ones(len(found), bool), found, ends.astype(np.int64)), (rows, rows)
    )
    return scipy.sparse.csgraph.connected_components(graph, directed=False)

  (count, _), theirs = timed('faiss, near-duplicates', joined)
  same = 'as many' if count == len(np.unique(groups)) else 'not as many'
  print(f'{same} groups; ratio {theirs / ours_all:.2f}')

  graph = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
  _, building = timed('faiss, HNSW, building', lambda: graph.add(x))
  graph.hnsw.efSearch = 64
  (_, near), theirs = timed('faiss, HNSW', lambda: graph.search(queries, K))
  recall = np.mean(
    [len(set(a) & set(b)) / K for a, b in zip(near, exact, strict=True)]
  )
  print(
    f'{100 * recall:.2f} % of the neighbors; ratio {theirs / ours:.2f}, with '
    f'its building {(building + theirs) / ours:.2f}'
  )


def _shared(ours: np.ndarray, theirs: np.ndarray) -> str:
  same = np.mean(np.sort(ours, axis=1) == np.sort(theirs, axis=1))
  return f'{100 * same:.2f} % the same neighbors'


if __name__ == '__main__':
  parser = argparse.ArgumentParser()
  parser.add_argument('--rows', type=int, default=100_000)
  parser.add_argument('--dim', type=int, default=128)
  options = parser.parse_args(sys.argv[1:])
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  main(options.rows, options.dim)
