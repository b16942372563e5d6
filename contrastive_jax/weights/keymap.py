"""Names and layouts of torch's state dicts, and ours: one table, both ways.

A family is a list of rules. A rule says how one of our parameters, or three of
an attention, is found in a state dict and laid out: torch keeps a convolution
as [out, in, height, width] and a dense layer as [out, in], Flax the other way
round. The same list reads and writes.
"""

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

Arrays = dict[str, np.ndarray]  # by name


class Rule(NamedTuple):
  """How parameters of ours are found in a state dict.

  Attributes:
    ours: our name, with {i} and the like for numbers: 'norm{i}/scale'.
    theirs: the other's, with the same numbers; {i0} counts from 0 where {i}
      counts from 1. torchvision's ConvNeXt counts what makes an image smaller
      and stages alike: {even} and {odd} of a {stage}.
    to_theirs: from our layout to torch's.
    to_ours: back, given our shape.
    part: which of `parts` equal pieces of theirs, along its first axis.
    parts: into how many it is cut; 3 of an attention's query, key, value.
  """

  ours: str
  theirs: str
  to_theirs: Callable[[np.ndarray], np.ndarray]
  to_ours: Callable[[np.ndarray, Sequence[int]], np.ndarray]
  part: int = 0
  parts: int = 1


def same(ours: str, theirs: str) -> Rule:
  """A rule for what is laid out alike, but for dimensions of 1."""
  return Rule(ours, theirs, lambda a: a, reshaped)


def reshaped(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Returns an array of a shape; one of another size stays as it is."""
  return array.reshape(shape) if array.size == math.prod(shape) else array


def conv(ours: str, theirs: str) -> Rule:
  """A rule for a convolution's kernel."""
  return Rule(
    ours,
    theirs,
    lambda a: a.transpose(3, 2, 0, 1),
    lambda a, shape: a.transpose(2, 3, 1, 0),
  )


def dense(ours: str, theirs: str) -> Rule:
  """A rule for a dense layer's kernel."""
  return Rule(ours, theirs, lambda a: a.T, lambda a, shape: a.T)


def to_ours(
  rules: Iterable[Rule],
  arrays: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
) -> tuple[Arrays, list[str], list[str]]:
  """Returns what of a state dict is ours.

  Args:
    rules: of the family.
    arrays: the state dict.
    shapes: of our parameters and statistics, by name; those of the arrays may
      differ, and are returned as they are.

  Returns:
    Arrays by our names; the names of theirs that are not there; the names of
    theirs that nothing of ours takes.
  """
  found: Arrays = {}
  missing, taken = [], set()
  for name, shape in shapes.items():
    rule, theirs = _rule_of(rules, name)
    if theirs not in arrays:
      missing.append(theirs)
      continue
    taken.add(theirs)
    array = arrays[theirs]
    if rule.parts > 1:
      if len(array) % rule.parts:
        raise ValueError(f'{theirs} does not divide by {rule.parts}')
      array = np.split(array, rule.parts)[rule.part]
    found[name] = np.ascontiguousarray(rule.to_ours(array, shape))
  return found, missing, [name for name in arrays if name not in taken]


def to_theirs(
  rules: Iterable[Rule], arrays: Mapping[str, np.ndarray]
) -> Arrays:
  """Returns a state dict, of contiguous arrays.

  Args:
    rules: of the family.
    arrays: our parameters and statistics, by name.

  Raises:
    ValueError: one of ours has no rule.
  """
  pieces: dict[str, dict[int, np.ndarray]] = {}
  for name, array in arrays.items():
    rule, theirs = _rule_of(rules, name)
    pieces.setdefault(theirs, {})[rule.part] = rule.to_theirs(np.asarray(array))
  return {
    name: np.ascontiguousarray(
      np.concatenate([found[i] for i in sorted(found)])
      if len(found) > 1
      else found[0]
    )
    for name, found in pieces.items()
  }


def filled(like: Any, arrays: Mapping[str, Any]) -> Any:
  """Returns a tree of arrays.

  Args:
    like: a tree of dicts.
    arrays: by the names of its leaves, 'norm/scale'; others are left.
  """
  return jax.tree.map_with_path(
    lambda path, _: arrays['/'.join(entry.key for entry in path)], like
  )


def _rule_of(rules: Iterable[Rule], name: str) -> tuple[Rule, str]:
  for rule in rules:
    if match := _pattern(rule.ours).fullmatch(name):
      numbers = {k: int(v) for k, v in match.groupdict().items()}
      from_0 = {f'{k}0': v - 1 for k, v in numbers.items()}
      twice = 2 * numbers.get('stage', 0)
      theirs = rule.theirs.format(
        **numbers, **from_0, even=twice - 2, odd=twice - 1
      )
      return rule, theirs
  raise ValueError(f'{name} has no counterpart there')


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
  return re.compile(re.sub(r'\{(\w+)\}', r'(?P<\1>\\d+)', name))
