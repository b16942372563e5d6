"""What has a representation become invariant to, and what can it still tell?

  python -m experiments.theory.invariance --workdir=runs/fashion_mnist \
      --output=runs/fashion_mnist/invariance

Invariance: the cosine c of the features of an image and of the same image
changed, between 0 (as of two different images) and 1 (the same):
(c - c_random) / (1 - c_random), with the mean cosine c_random of all pairs of
different images; below 0 the change moves an image further than to another one.
The changes are the run's augmentations one by one, each with its strength and
with certainty (also those that the run has switched off: the table says which),
and rotation, translation and scale, which no run trains with, though a random
crop is near to the last two. What comes into a picture from outside has the
median of its border.

Nuisances: what a downstream task may care for. Every image gets one of four
rotations, seven positions or three sizes at random; a linear probe on the
features of training images says which, and is tested on test images.

Both of raw pixels, of the untrained and of the trained encoder. Writes
invariance.csv, nuisances.csv, invariance.md and invariance.png.
"""

import argparse
import csv
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.config import Config
from contrastive_jax.evaluation import encoder, linear, protocols
from contrastive_jax.training import build
from experiments.theory import changes, represent
from experiments.theory.represent import Represent

TRAIN_IMAGES = 5000
TEST_IMAGES = 2000


class Invariance(NamedTuple):
  """How little a change moves the features: 1 not at all, 0 to another's."""

  representation: str
  change: str
  trained_with: bool
  mean: float  # over images
  standard_error: float


class Nuisance(NamedTuple):
  """How well a linear probe reads off what was done to an image."""

  representation: str
  nuisance: str
  classes: int
  accuracy: float
  low: float  # 95 % interval, over the test images
  high: float


def invariance(plain: np.ndarray, changed: np.ndarray) -> np.ndarray:
  """Returns how near the features of changed images are to their own.

  Args:
    plain: [n, D].
    changed: [n, D], row by row of the same images.

  Returns:
    [n]: 1 for the same direction; 0 is the mean of different plain images.

  Raises:
    ValueError: all plain features have one direction.
  """
  u, v = _normalized(plain), _normalized(changed)
  total, count = u.sum(axis=0), len(u)
  random = (total @ total - np.square(u).sum()) / (count * (count - 1))
  if random > 1 - 1e-9:
    raise ValueError(
      f'the features of {count} images all have one direction: nothing can be '
      'compared'
    )
  return (np.sum(u * v, axis=1) - random) / (1 - random)


def _normalized(z):
  z = np.asarray(z, np.float64)
  return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)


def measure_invariance(
  representations: Mapping[str, Represent], images: np.ndarray, config: Config
) -> list[Invariance]:
  """Returns how invariant each representation is to each change of the run.

  Args:
    representations: by name.
    images: uint8 [n, side, side, channels].
    config: of the run.

  Returns:
    One for each change and representation; a change that leaves all images as
    they are (a jitter of gray images' hue) is left out.
  """
  plain = {
    name: features_of(images) for name, features_of in representations.items()
  }
  found = []
  for change, (apply, trained_with) in changes.of_run(config).items():
    changed = apply(images)
    if np.array_equal(changed, images):
      continue
    for name, features_of in representations.items():
      index = invariance(plain[name], features_of(changed))
      mean = float(index.mean())
      error = float(index.std(ddof=1)) / math.sqrt(len(index))
      found.append(Invariance(name, change, trained_with, mean, error))
  return found


def measure_nuisances(
  representations: Mapping[str, Represent], train: np.ndarray, test: np.ndarray
) -> list[Nuisance]:
  """Returns how well each representation still tells each nuisance.

  Args:
    representations: by name.
    train: images for the probes, uint8 [n, side, side, channels].
    test: images that they are tested on.

  Returns:
    One for each of `changes.NUISANCES` and each representation.
  """
  found = []
  for nuisance, variants in changes.NUISANCES.items():
    train_images, train_labels = changes.varied(train, variants, 0)
    test_images, test_labels = changes.varied(test, variants, 1)
    for name, features_of in representations.items():
      probe = linear.fit_probe(
        features_of(train_images),
        train_labels,
        num_classes=len(variants),
        # 1,000 of 5,000: enough to choose by, without cross-validation.
        validation_share=0.2,
      )
      predicted = probe.predict(features_of(test_images))
      scores = protocols.interval(predicted, test_labels)
      found.append(Nuisance(name, nuisance, len(variants), *scores))
  return found


def tables(
  invariances: Sequence[Invariance], nuisances: Sequence[Nuisance]
) -> str:
  """Returns both tables in Markdown, a column a representation.

  Args:
    invariances: of `measure_invariance`; mean and standard error over images.
    nuisances: of `measure_nuisances`; accuracy and its 95 % interval.
  """
  names = list(dict.fromkeys(row.representation for row in invariances))
  ending = f' | {" | ".join(names)} |'
  lines = ['| invariance to | in training' + ending, '|' + '---|' * 5]
  for change, rows in _grouped(invariances, 'change').items():
    cells = [f'{row.mean:.3f} ± {row.standard_error:.3f}' for row in rows]
    trained_with = 'yes' if rows[0].trained_with else 'no'
    lines.append(f'| {change} | {trained_with} | {" | ".join(cells)} |')
  lines += ['', '| probe reads, % | chance' + ending, '|' + '---|' * 5]
  for nuisance, rows in _grouped(nuisances, 'nuisance').items():
    cells = [
      f'{100 * row.accuracy:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f})'
      for row in rows
    ]
    chance = f'{100 / rows[0].classes:.1f}'
    lines.append(f'| {nuisance} | {chance} | {" | ".join(cells)} |')
  return '\n'.join(lines)


def _grouped(rows: Sequence[Any], field: str) -> dict[str, list[Any]]:
  found: dict[str, list[Any]] = {}
  for row in rows:
    found.setdefault(getattr(row, field), []).append(row)
  return found


def plot(
  invariances: Sequence[Invariance], nuisances: Sequence[Nuisance]
) -> Figure:
  """Draws both tables as bars.

  Args:
    invariances: of `measure_invariance`.
    nuisances: of `measure_nuisances`.

  Returns:
    The figure.
  """
  figure = Figure((11, 6), layout='constrained')
  left, right = figure.subplots(1, 2)
  by_change = _grouped(invariances, 'change')
  names = list(dict.fromkeys(row.representation for row in invariances))
  for number, name in enumerate(names):
    offset, color = 0.27 * (number - 1), f'C{number}'
    rows = [row for row in invariances if row.representation == name]
    left.barh(
      np.arange(len(rows)) + offset,
      [row.mean for row in rows],
      0.25,
      xerr=[row.standard_error for row in rows],
      color=color,
      label=name,
    )
    probes = [row for row in nuisances if row.representation == name]
    right.barh(
      np.arange(len(probes)) + offset,
      [100 * row.accuracy for row in probes],
      0.25,
      xerr=100
      * np.array([(r.accuracy - r.low, r.high - r.accuracy) for r in probes]).T,
      color=color,
    )
  labels = [
    f'{change} *' if rows[0].trained_with else change
    for change, rows in by_change.items()
  ]
  left.set_yticks(range(len(labels)), labels)
  left.set_xlabel('invariance: 1 the same, 0 as another image')
  left.set_title('* in training', loc='left', fontsize='small')
  by_nuisance = _grouped(nuisances, 'nuisance')
  for place, rows in enumerate(by_nuisance.values()):
    chance = 100 / rows[0].classes
    right.plot([chance] * 2, [place - 0.45, place + 0.45], 'k--', linewidth=1)
  right.set_yticks(
    range(len(by_nuisance)), [n.replace(': ', ':\n') for n in by_nuisance]
  )
  right.set_xlim(0, 100)
  right.set_xlabel('linear probe, %; dashed: chance')
  for axes in (left, right):
    axes.invert_yaxis()
    axes.grid(axis='x', alpha=0.3)
    axes.set_axisbelow(True)
  figure.legend(loc='outside upper center', ncols=3, frameon=False)
  return figure


def study(workdir: pathlib.Path, output: pathlib.Path) -> str:
  """Measures a run, and writes tables and plot.

  Args:
    workdir: of the run; nothing in it is changed.
    output: where to.

  Returns:
    The tables.

  Raises:
    FileNotFoundError: no work folder, or no checkpoint in it.
    ValueError: there is no test split.
  """
  config = encoder.read_config(workdir)
  job = build.build(config, encoder.fitting_mesh(config))
  if job.source.test is None:
    raise ValueError(f'{job.source.name} has no test split')
  representations = represent.by_name(job, workdir)
  test = represent.sample(job, job.source.test, TEST_IMAGES)
  train = represent.sample(job, job.source.train, TRAIN_IMAGES)
  invariances = measure_invariance(representations, test, job.config)
  nuisances = measure_nuisances(representations, train, test)
  output.mkdir(parents=True, exist_ok=True)
  for name, rows in (('invariance', invariances), ('nuisances', nuisances)):
    with (output / f'{name}.csv').open('w', newline='') as file:
      writer = csv.writer(file)
      writer.writerow(rows[0]._fields)
      writer.writerows(rows)
  plot(invariances, nuisances).savefig(output / 'invariance.png', dpi=120)
  text = (
    f'{job.config.objective.name} on {len(test):,} images of '
    f'{job.source.test.name}; probes fitted to {len(train):,} of '
    f'{job.source.train.name}.\n\n{tables(invariances, nuisances)}'
  )
  (output / 'invariance.md').write_text(text + '\n')
  return text


def main() -> None:
  """Measures, and writes tables and plot."""
  parser = argparse.ArgumentParser(description='Invariance and nuisances.')
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  args = parser.parse_args()
  try:
    print(study(args.workdir, args.output))
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
