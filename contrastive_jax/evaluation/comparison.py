"""What is the representation worth? The same measure for every objective.

Raw pixels, the untrained and the trained encoder side by side: what stands in
summary.json.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from contrastive_jax.data import labels as labels_lib
from contrastive_jax.diagnostics import embedding
from contrastive_jax.evaluation import (
  correctness,
  encoder,
  features,
  intervals,
  knn,
  linear,
)
from contrastive_jax.training import build
from contrastive_jax.training.state import TrainState

# The probe of more images' pixels would cost more than it tells.
_PIXELS_IMAGES = 200_000
# Features of which the effective rank is measured.
_RANK_IMAGES = 10_000
_RANK = 'effective_rank'
_UNTRAINED = 'untrained encoder'
# What a run that was stopped before its evaluation has in its summary.
NOTHING = {
  'rows': {},
  'knn_accuracy': None,
  'linear_accuracy': None,
  'few_label_accuracy': None,
  'feature_rank': None,
  'test_images': None,
  'gains': {},
  'test_sha256': None,
  'right': {},
}


def compare(
  job: build.Job, state: TrainState, *, untrained: TrainState
) -> dict[str, Any]:
  """Returns kNN and linear accuracy of pixels, untrained, trained encoder.

  Args:
    job: the parts.
    state: whose encoder is measured.
    untrained: of `build.untrained_state`.

  Returns:
    `rows`: a dict of metrics for each of the three (of the trained one alone,
    without config.evaluation.baselines); and knn_accuracy, linear_accuracy,
    few_label_accuracy and feature_rank (the effective rank of up to 10,000
    images' features) of the trained encoder; and test_images, how many the
    accuracies are of. Accuracies are None (null) where the data has no labels
    or no test split, and all of raw pixels are where there are more than
    200,000 images. `gains` has, for each baseline and metric, the trained
    encoder's accuracy less the baseline's, and the ends of its 95 % interval
    over the test images, which are the same for both. `test_sha256` says which
    images those are (`correctness.images_sha256`; None without labels), and
    `right`, for each of the three and each metric, which of them it has right
    (`correctness.pack`): runs are compared by these.

  Raises:
    RuntimeError: an image's features depend on the batch that it is in.
  """
  frozen = encoder.frozen(job)
  encoder.assert_frozen(job, frozen(state))

  def encoded(state):
    return lambda split, limit=None: encoder.encode(
      job, frozen(state), split, limit
    )

  rows, right = {}, {}
  if job.config.evaluation.baselines:
    plain, _ = job.modality.baseline
    rows[plain] = dict.fromkeys((*_metric_names(job), _RANK))
    if job.run.num_examples <= _PIXELS_IMAGES:
      rows[plain], right[plain], _ = _measure(
        job, lambda split, limit=None: encoder.baseline(job, split, limit)
      )
    rows[_UNTRAINED], right[_UNTRAINED], _ = _measure(job, encoded(untrained))
  trained, ours, images = _measure(job, encoded(state))
  rows['trained encoder'] = trained
  names = _metric_names(job)
  return {
    'rows': rows,
    'knn_accuracy': trained[names[0]],
    'linear_accuracy': trained[names[1]],
    'few_label_accuracy': trained[names[2]],
    'feature_rank': trained[_RANK],
    'test_images': len(next(iter(ours.values()))) if ours else None,
    'gains': {
      row: {
        name: intervals.paired(ours[name], theirs[name])
        for name in ours.keys() & theirs.keys()
      }
      for row, theirs in right.items()
    },
    # Last, as they are not for reading.
    'test_sha256': images,
    'right': {
      row: {name: correctness.pack(x) for name, x in of_row.items()}
      for row, of_row in {**right, 'trained encoder': ours}.items()
      if of_row
    },
  }


def table(summary: dict[str, Any], plural: str = 'images') -> str:
  """Returns the rows of a summary as lines of text, accuracies in per cent.

  Args:
    summary: of `compare`.
    plural: what the examples are.

  Returns:
    A line each, the widest 95 % interval of the accuracies, and the gain over
    the untrained encoder.
  """
  rows = summary['rows']
  # Without labels there is nothing but the rank: no table of dashes.
  names = [
    name
    for name in next(iter(rows.values()))
    if any(metrics[name] is not None for metrics in rows.values())
  ]
  title = 'accuracy, %' if set(names) - {_RANK} else ''
  lines = [f'{title:<20}' + ''.join(f'{n:>26}' for n in names)]
  for row, metrics in rows.items():
    values = [
      '-'
      if metrics[n] is None
      else f'{metrics[n] * (1 if n == _RANK else 100):.2f}'
      for n in names
    ]
    lines.append(f'{row:<20}' + ''.join(f'{v:>26}' for v in values))
  images = summary['test_images']
  accuracies = [
    value
    for metrics in rows.values()
    for name, value in metrics.items()
    if name != _RANK
  ]
  if half := intervals.widest(accuracies, images):
    lines.append(
      f'accuracies are of {images:,} {plural}: known to ± {100 * half:.1f} '
      'points or better (95 %)'
    )
  if gains := summary['gains'].get(_UNTRAINED):
    lines.append(
      f'trained less untrained, on the same {plural} (95 %): '
      + ', '.join(
        '{} {:+.1f} ({:+.1f} to {:+.1f})'.format(
          name, *(100 * value for value in gains[name])
        )
        for name in names
        if name in gains
      )
    )
  return '\n'.join(lines)


def _metric_names(job: build.Job) -> tuple[str, str, str]:
  c = job.config.evaluation
  labeled = job.run.num_examples - labels_lib.unlabeled(job.source.train)
  return (
    knn.knn_name(min(c.knn_k, labeled), c.knn_temperature),
    'linear',
    f'linear_{c.labels_per_class}_labels_a_class',
  )


def _measure(
  job: build.Job, represent: Callable[..., features.Rows]
) -> tuple[dict[str, float | None], dict[str, np.ndarray], str | None]:
  """All metrics of a representation, what each has right, and of which images.

  Images that cannot be read are not among them; there are none without labels.
  """
  source, c = job.source, job.config.evaluation
  names = _metric_names(job)
  num_classes = job.run.num_classes
  if num_classes is None or source.test is None or not source.test.num_classes:
    some, _, _ = represent(source.test or source.train, _RANK_IMAGES)
    rank = embedding.effective_rank(some)
    return {**dict.fromkeys(names), _RANK: rank}, {}, None
  bank, labels, _ = features.labeled(represent(source.train))
  queries, truth, ids = features.labeled(represent(source.test))
  features.check(queries, truth, num_classes, 'test')
  neighbors = knn.knn_predict(
    bank,
    labels,
    queries,
    num_classes=num_classes,
    k=min(c.knn_k, len(bank)),
    temperature=c.knn_temperature,
  )

  def probe(chosen):
    return linear.fit_probe(
      bank[chosen],
      labels[chosen],
      num_classes=num_classes,
      seed=job.config.seed,
    ).predict(queries)

  predicted = {names[0]: neighbors, names[1]: probe(slice(None))}
  if np.bincount(labels, minlength=num_classes).min() >= c.labels_per_class:
    predicted[names[2]] = probe(
      linear.few_labels(labels, c.labels_per_class, seed=job.config.seed)
    )
  right = {name: classes == truth for name, classes in predicted.items()}
  rank = embedding.effective_rank(queries[:_RANK_IMAGES])
  accuracies = {name: float(np.mean(x)) for name, x in right.items()}
  images = correctness.images_sha256(source.test, ids, truth)
  return {**dict.fromkeys(names), **accuracies, _RANK: rank}, right, images
