"""The rooms of the package and the import arrows between them.

  python -m experiments.import_graph [--output=graph.png]

A room is a module at the top of the package, or a folder. An arrow says that
one imports the other, at the top of a file or inside a function. Prints the
counts, and draws the rooms in layers: every arrow runs down.
"""

import argparse
import ast
import pathlib

PACKAGE = 'contrastive_jax'
ROOT = pathlib.Path(__file__).parents[1] / PACKAGE


def modules() -> dict[str, pathlib.Path]:
  """Returns all modules of the package, by their dotted names."""
  found = {}
  for path in sorted(ROOT.rglob('*.py')):
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix('').parts]
    name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
    found[name] = path
  return found


def imports(lazy: bool = True) -> dict[str, set[str]]:
  """Returns which modules of the package each of them imports.

  Args:
    lazy: whether imports inside functions count.
  """
  known = modules()
  graph: dict[str, set[str]] = {}
  for name, path in known.items():
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if lazy else tree.body
    found = set()
    for node in nodes:
      if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
          inner = f'{node.module}.{alias.name}'
          found.add(inner if inner in known else node.module)
      elif isinstance(node, ast.Import):
        found |= {alias.name for alias in node.names}
    graph[name] = {m for m in found if m in known and m != name}
  return graph


def room(module: str) -> str:
  """Returns the room of a module: 'training' of 'x.training.loop'."""
  parts = module.split('.')
  return parts[1] if len(parts) > 1 else PACKAGE


def rooms() -> dict[str, set[str]]:
  """Returns the arrows between rooms."""
  graph: dict[str, set[str]] = {}
  for name, found in imports().items():
    graph.setdefault(room(name), set()).update(map(room, found))
  return {name: found - {name} for name, found in graph.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
  """Returns the nodes of a circle, or nothing."""
  done: set[str] = set()

  def visit(node: str, path: list[str]) -> list[str]:
    if node in path:
      return [*path[path.index(node) :], node]
    if node in done:
      return []
    for other in sorted(graph.get(node, ())):
      if found := visit(other, [*path, node]):
        return found
    done.add(node)
    return []

  for node in sorted(graph):
    if found := visit(node, []):
      return found
  return []


def layers(graph: dict[str, set[str]]) -> dict[str, int]:
  """Returns how deep each room lies: below all that import it."""
  depth = dict.fromkeys(graph, 0)
  for _ in graph:
    for name, found in graph.items():
      for other in found:
        depth[other] = max(depth[other], depth[name] + 1)
  return depth


def draw(path: str) -> None:
  """Draws the rooms in layers."""
  from matplotlib.figure import Figure

  graph = rooms()
  depth = layers(graph)
  figure = Figure(figsize=(12, 9))
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  places = {}
  for level in set(depth.values()):
    names = sorted(name for name in depth if depth[name] == level)
    for i, name in enumerate(names):
      # Shifted from level to level, so that few arrows run through a name.
      x = (i + 0.5 + 0.17 * (level % 3 - 1)) / len(names)
      places[name] = (x, -level)
  for name, found in graph.items():
    for other in found:
      axes.annotate(
        '',
        places[other],
        places[name],
        arrowprops=dict(arrowstyle='->', color='0.6', shrinkA=12, shrinkB=12),
      )
  for name, (x, y) in places.items():
    box = dict(boxstyle='round', facecolor='white', edgecolor='0.3')
    axes.text(x, y, name, ha='center', va='center', bbox=box)
  axes.set_xlim(-0.05, 1.05)
  axes.set_ylim(-max(depth.values()) - 0.5, 0.5)
  figure.savefig(path, dpi=110)


def main() -> None:
  """Prints the counts, and draws if asked to."""
  parser = argparse.ArgumentParser(description='Counts rooms and arrows.')
  parser.add_argument('--output', help='a PNG file')
  output = parser.parse_args().output
  graph = rooms()
  arrows = sum(map(len, graph.values()))
  print(f'{len(graph)} rooms, {arrows} arrows')
  for name, found in sorted(graph.items()):
    print(f'  {name}: {", ".join(sorted(found)) or "-"}')
  for what, nodes in (('modules', circle(imports())), ('rooms', circle(graph))):
    print(f'circle of {what}: {" -> ".join(nodes) or "none"}')
  if output:
    draw(output)


if __name__ == '__main__':
  main()
