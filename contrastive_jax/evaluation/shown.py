"""Results of evaluations as lines of text."""

import collections
import statistics
from collections.abc import Sequence
from typing import Any

from contrastive_jax.evaluation.pairs import PROTOCOLS


def line(result: dict[str, Any]) -> str:
  """Returns a result as a line of text, in per cent."""
  return (
    f'{result["protocol"]:<20} {100 * result["value"]:6.2f} '
    f'[{100 * result["low"]:.2f}, {100 * result["high"]:.2f}]  '
    f'{result["representation"]}, {result["data"]}: {result["setting"]}'
  )


def spread(evaluations: Sequence[dict[str, Any]]) -> list[str]:
  """Returns lines with mean and standard deviation over several runs.

  Args:
    evaluations: of `evaluate`, such as of several seeds; of each the newest
      result counts.

  Returns:
    A line for each protocol, representation and data that several have.
  """
  values = collections.defaultdict(list)
  for evaluation in evaluations:
    newest = {
      (
        *(result[k] for k in ('protocol', 'representation', 'data')),
        result['metric'] if result['protocol'] in PROTOCOLS else '',
      ): result
      for result in evaluation['results']
      if result['headline']
    }
    for key, result in newest.items():
      values[key].append(result['value'])
  return [
    f'{protocol:<20} {100 * statistics.mean(v):6.2f} ± '
    f'{100 * statistics.stdev(v):.2f}  {representation}, {data}: '
    + (f'{metric}; ' if metric else '')
    + f'{len(v)} of {len(evaluations)} runs'
    for (protocol, representation, data, metric), v in values.items()
    if len(v) > 1
  ]
