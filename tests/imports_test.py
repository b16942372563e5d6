"""The package's rooms: no circle, and quick to import."""

import subprocess
import sys

from experiments import import_graph


def test_there_is_no_circle():
  assert import_graph.circle(import_graph.imports()) == []
  assert import_graph.circle(import_graph.rooms()) == []


def test_a_circle_would_be_found():
  graph = {'a': {'b'}, 'b': {'c'}, 'c': {'b'}, 'd': set()}
  assert import_graph.circle(graph) == ['b', 'c', 'b']


def test_the_floor_plan_stays_small():
  graph = import_graph.rooms()
  assert len(graph) <= 27
  assert sum(map(len, graph.values())) <= 84


def test_the_import_waits_for_nothing():
  """Neither the package nor a command's --help loads JAX or TensorFlow."""
  code = (
    'import sys, contrastive_jax as cj\n'
    'from contrastive_jax import main, preview, report, sweep\n'
    'import contrastive_jax.evaluate, contrastive_jax.export\n'
    'import contrastive_jax.embed, contrastive_jax.predict\n'
    'import contrastive_jax.plan, contrastive_jax.doctor\n'
    'heavy = {"jax", "tensorflow", "flax", "matplotlib"} & set(sys.modules)\n'
    'assert not heavy, heavy\n'
    'assert cj.__version__ and callable(cj.losses.nt_xent)\n'
    'assert callable(cj.pretrain) and callable(cj.load_encoder)\n'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
