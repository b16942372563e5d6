"""Does a trained encoder's InfoNCE bound still gain from more negatives?

  python -m experiments.theory.negatives --workdir=runs/fashion_mnist \
      --output=runs/fashion_mnist/negatives

Two augmented views of up to 4,096 images go through the objective's own loss
call, so many at a time as the run's batch has: batch norm uses the batch, as in
training. The critic is the cosine of the embeddings that it returns (of the
projector, also where the loss compares a predictor's) over the run's
temperature. The bound of K pairs cannot pass ln K: where it is far below, the
encoder tells all it can tell, and more negatives only make it surer.

Of n images, K are drawn 10 times without replacement, and all of them once. The
draws of more than a few hundredths of n share images: their spread is too
small to be that of other images.

Writes negatives.csv, negatives.md and negatives.png.

Reference: van den Oord et al. 2018 (arXiv 1807.03748), section 2.3; Poole et
al. 2019 (arXiv 1905.06922).
"""

import argparse
import csv
import math
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.data.split import Split
from contrastive_jax.diagnostics import mutual_information as mi
from contrastive_jax.evaluation import encoder
from contrastive_jax.training import build, step
from contrastive_jax.training.state import TrainState
from experiments.theory import represent

IMAGES = 4096
DRAWS = 10
# From so many nats below ln K on, negatives are no longer what is missing.
GAP = 0.5


class Bound(NamedTuple):
  """The InfoNCE bound of K pairs, in nats."""

  pairs: int
  mean: float  # over the draws
  std: float  # NaN of one draw


def scores(
  job: build.Job,
  states: Iterable[TrainState],
  split: Split,
  limit: int = IMAGES,
) -> list[np.ndarray]:
  """Returns the scores of each state: cosines over the temperature.

  Args:
    job: of an objective that compares two views at a temperature, on one
      device.
    states: trained or not.
    split: whose images are augmented as in the run's epoch 0.
    limit: of the images, which are a multiple of the batch size.

  Returns:
    float32 [n, n] of each state: of the first view of an image with the second
    view of each image.

  Raises:
    ValueError: the objective has no such scores, or the split fewer images
      than a batch.
  """
  c = job.config
  if 'temperature' not in c.objective or 'num_prototypes' in c.objective:
    raise ValueError(
      f'{c.objective.name} compares no pairs of embeddings at a temperature: '
      'it has no scores to make a bound of'
    )
  if len(c.augment.blur) < 2:
    raise ValueError(
      f'{c.objective.name} has 1 view of an image, and a pair takes 2'
    )
  temperature = np.float32(c.objective.temperature)
  return [
    _normalized(first) @ _normalized(second).T / temperature
    for first, second in represent.embeddings(job, states, split, limit)
  ]


def _normalized(z: np.ndarray) -> np.ndarray:
  return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def bounds(
  all_scores: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> list[Bound]:
  """Returns the bound of 2, 4, 8, ... pairs, drawn at random, and of all.

  Args:
    all_scores: [n, n], n >= 2.
    draws: of each number of pairs but n.
    seed: of the draws.

  Returns:
    Rising in the number of pairs, at most n.
  """
  rng = np.random.default_rng(seed)
  info_nce = jax.jit(mi.info_nce)
  count, found = len(all_scores), []
  powers = [2**power for power in range(1, count.bit_length())]
  for pairs in dict.fromkeys((*powers, count)):
    values = []
    for _ in range(draws if pairs < count else 1):
      chosen = rng.permutation(count)[:pairs]
      values.append(float(info_nce(all_scores[np.ix_(chosen, chosen)])))
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    found.append(Bound(pairs, float(np.mean(values)), std))
  return found


def departure(curve: Sequence[Bound], gap: float = GAP) -> Bound | None:
  """Returns the first bound that is more than `gap` nats below ln K, if any."""
  below = (b for b in curve if math.log(b.pairs) - b.mean > gap)
  return next(below, None)


def sentence(name: str, curve: Sequence[Bound]) -> str:
  """Says where the bound of an encoder leaves ln K.

  Args:
    name: of the encoder.
    curve: its bounds.

  Returns:
    A sentence.
  """
  found = departure(curve)
  if found is None:
    return (
      f'{name}: the bound stays within {GAP} nats of ln K up to the '
      f'{curve[-1].pairs:,} pairs that there are.'
    )
  return (
    f'{name}: the bound leaves ln K at K = {found.pairs:,}, where it is '
    f'{found.mean:.2f} nats and ln K {math.log(found.pairs):.2f} (the first K '
    f'at which it is more than {GAP} nats below).'
  )


def table(curves: Mapping[str, Sequence[Bound]]) -> str:
  """Returns Markdown: a line a number of pairs, a column an encoder.

  Args:
    curves: bounds of the same numbers of pairs.

  Returns:
    The table, in nats; mean and standard deviation over the draws.
  """
  lines = [
    f'| K | ln K | {" | ".join(curves)} |',
    '|' + '---|' * (2 + len(curves)),
  ]
  for row in zip(*curves.values(), strict=True):
    cells = [
      f'{b.mean:.2f}' + ('' if math.isnan(b.std) else f' ± {b.std:.2f}')
      for b in row
    ]
    pairs = row[0].pairs
    lines.append(f'| {pairs:,} | {math.log(pairs):.2f} | {" | ".join(cells)} |')
  return '\n'.join(lines)


def plot(curves: Mapping[str, Sequence[Bound]]) -> Figure:
  """Draws the bounds against the number of pairs, and ln K.

  Args:
    curves: of each encoder.

  Returns:
    The figure.
  """
  figure = Figure((6, 4), layout='constrained')
  axes = figure.subplots()
  for name, curve in curves.items():
    axes.errorbar(
      [b.pairs for b in curve],
      [b.mean for b in curve],
      yerr=np.nan_to_num([b.std for b in curve]),
      marker='.',
      capsize=2,
      label=name,
    )
  pairs = [b.pairs for b in next(iter(curves.values()))]
  axes.plot(pairs, np.log(pairs), color='gray', linestyle='--', label='ln K')
  axes.set_xscale('log', base=2)
  axes.set_xticks(pairs, [str(k) for k in pairs], fontsize='small')
  axes.set_xlabel('K, the positive and K - 1 negatives')
  axes.set_ylabel('InfoNCE bound, nats')
  axes.grid(alpha=0.3)
  axes.legend(frameon=False)
  return figure


def study(workdir: pathlib.Path, output: pathlib.Path, part: str) -> str:
  """Measures a run, and writes table and plot.

  Args:
    workdir: of the run; nothing in it is changed.
    output: where to.
    part: 'test' or 'train', the images.

  Returns:
    The table, and what it says.

  Raises:
    FileNotFoundError: no work folder, or no checkpoint in it.
    ValueError: there are no such scores, or no such images.
  """
  # The statistics of a batch are of the whole batch: one device.
  mesh = step.make_mesh(jax.local_devices()[:1])
  job = build.build(encoder.read_config(workdir), mesh)
  split = getattr(job.source, part)
  if split is None:
    raise ValueError(f'{job.source.name} has no {part} split')
  trained = encoder.restore(job, workdir)
  states = {
    'trained encoder': trained,
    'untrained encoder': build.untrained_state(job),
  }
  found = scores(job, states.values(), split)
  curves = dict(zip(states, map(bounds, found), strict=True))
  output.mkdir(parents=True, exist_ok=True)
  with (output / 'negatives.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['encoder', 'pairs', 'ln_pairs', 'mean', 'std'])
    writer.writerows(
      [name, b.pairs, math.log(b.pairs), b.mean, b.std]
      for name, curve in curves.items()
      for b in curve
    )
  plot(curves).savefig(output / 'negatives.png', dpi=120)
  text = '\n\n'.join(
    [
      f'InfoNCE bound in nats of {job.config.objective.name} at temperature '
      f'{job.config.objective.temperature:g}, {len(found[0]):,} images of '
      f'{split.name}: mean ± standard deviation of {DRAWS} draws.',
      table(curves),
      *(sentence(name, curve) for name, curve in curves.items()),
    ]
  )
  (output / 'negatives.md').write_text(text + '\n')
  return text


def main() -> None:
  """Measures, and writes table and plot."""
  parser = argparse.ArgumentParser(description='Bound and negatives.')
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--split', choices=('test', 'train'), default='test')
  args = parser.parse_args()
  try:
    print(study(args.workdir, args.output, args.split))
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
