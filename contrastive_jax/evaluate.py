"""What is a run's encoder worth? Any protocols, with confidence intervals.

  python -m contrastive_jax.evaluate --workdir=runs/digits \
      --protocol=knn,linear,linear_lbfgs,finetune_10,supervised \
      --transfer=idx:/usr/share/datasets/fashion-mnist

Frozen features: knn, linear, linear_centered, linear_lbfgs, linear_few, and
linear_PAPER for the probes as published (evaluation/papers.py). The encoder
trained on: finetune_1, finetune_10, finetune_100 (per cent of the labels), each
beside the same from random weights; `supervised`, the pretraining's budget with
all labels. Of text with a column `pair`: retrieval, of each its pair and back;
and with one `score`, spearman, the rank correlation of cosines with it. Of
images with texts: retrieval, and zero_shot, classes by their names (--prompt).
`--transfer` puts the frozen protocols to other data sources too, or to these
alone if the run's own has no labels.

Prints a table and adds it to WORKDIR/evaluation.json. Intervals are of 95 %,
over the test examples; of linear_few, and where several work folders are given,
over subsets and folders (mean and standard deviation). Which of several runs is
better, on the same images: contrastive_jax.report.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging

from contrastive_jax.commands import command_line, compiled


def _define_flags() -> None:
  flags.DEFINE_multi_string(
    'workdir', None, 'Of a run; may be given again.', required=True
  )
  flags.DEFINE_list(
    'protocol', ['knn', 'linear'], 'See above; several at once.'
  )
  flags.DEFINE_list('transfer', [], 'Other data sources.')
  flags.DEFINE_multi_string(
    'prompt', [], "Of zero_shot: 'a photo of a {}'; may be given again."
  )
  flags.DEFINE_bool('baselines', False, 'Pixels and the untrained encoder too.')
  flags.DEFINE_integer(
    'step', None, "A checkpoint's; default: the newest.", lower_bound=0
  )
  flags.DEFINE_integer(
    'seed',
    None,
    'Of splits and subsets; default: the run.',
    lower_bound=0,
    upper_bound=2**31 - 1,
  )


def main(argv: Sequence[str]) -> None:
  """Evaluates the work folders."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  values = flags.FLAGS
  if not values['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  compiled.keep()
  # Only now: the import takes seconds, and --help is not to wait for it.
  from contrastive_jax.evaluation.run import evaluate
  from contrastive_jax.evaluation.shown import spread

  evaluations: list[dict[str, Any]] = []
  failed: list[str] = []
  for workdir in values.workdir:
    reasons: list[str] = []
    with command_line.errors_into(reasons):
      evaluation = evaluate(
        workdir,
        values.protocol,
        transfer=values.transfer,
        baselines=values.baselines,
        seed=values.seed,
        step=values.step,
        prompts=values.prompt,
      )
      evaluations.append(evaluation)
      reasons = evaluation['failed']
    of = f'{workdir}: ' if len(values.workdir) > 1 else ''
    failed += [f'error: {of}{reason}' for reason in reasons]
  if len(evaluations) > 1:
    print('\n'.join(spread(evaluations)))
  if failed:
    sys.exit('\n'.join(failed))


if __name__ == '__main__':
  _define_flags()
  app.run(main)
