"""Is the encoder getting better, while it trains? And is it worse than before?

A fixed part of the data is encoded before the first step and every
evaluation.every_epochs epochs: neighbors and a linear probe on frozen features,
so that nothing of it can reach the training. Each accuracy is compared with
that before the first step, image by image.
"""

import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data import labels as labels_lib
from contrastive_jax.data import split as split_lib
from contrastive_jax.data.split import Split
from contrastive_jax.diagnostics import embedding
from contrastive_jax.evaluation import (
  correctness,
  encoder,
  features,
  intervals,
  knn,
)
from contrastive_jax.training import build, progress, sidefiles
from contrastive_jax.training.state import TrainState

# Of training images, and of images that are classified: of Fashion-MNIST, an
# epoch of two views forward and backward, to encode them takes 2 %.
BANK, QUERIES = 4096, 2048
_KINDS = ('knn', 'probe')
_RIDGE = tuple(10.0**e for e in range(-2, 5))  # penalties of the probe


class Worse(Error):
  """Training has made the features worse, and config.on_worse is 'stop'."""

  def __init__(self, sentence: str, report: dict[str, Any]):
    """Takes the sentence, and the report at which it was seen."""
    super().__init__(sentence)
    self.report = report


def watch(job: build.Job, workdir: pathlib.Path) -> 'Watch | None':
  """Returns what measures a run; None if its config wants nothing of it.

  Args:
    job: the parts.
    workdir: of the run.

  Raises:
    Error: start.json is damaged.
  """
  if job.config.evaluation.every_epochs or job.config.encoder.init:
    return Watch(job, workdir)
  return None


class Watch:
  """Measures the encoder of a state; knows what it was before the first step.

  `start.json` in the work folder keeps that for a run that is continued.
  """

  def __init__(self, job: build.Job, workdir: pathlib.Path):
    """Chooses the images, the same ones for a seed.

    Args:
      job: the parts.
      workdir: of the run.

    Raises:
      Error: the run is to go by accuracies that there are not.
    """
    self._job, self._path = job, workdir / 'start.json'
    train, test = job.source.train, job.source.test
    self._labeled = labels_lib.measurable(job.source)
    _check(job, self._labeled)
    self._bank = _some(train, BANK, job.config.seed)
    self._queries = self._bank
    if test is not None:
      self._queries = _some(test, QUERIES, job.config.seed)
    every = job.config.evaluation.every_epochs
    self._every_steps = every * job.run.steps_per_epoch
    self._said, self._sha256 = '', ''
    self._right: dict[str, np.ndarray] = {}
    self._start: dict[str, Any] = {}
    if self._path.exists():  # of a run that is continued
      self._start = sidefiles.read_object(self._path)

  def due(self, before: int, done: int) -> bool:
    """Returns whether a report is to have a measurement.

    Args:
      before: the step of the last report.
      done: that of this one.
    """
    if not self._every_steps:
      return done == self._job.run.total_steps
    passed = [int(step / self._every_steps) for step in (before, done)]
    return passed[0] < passed[1] or done == self._job.run.total_steps

  def start(self, state: TrainState) -> dict[str, Any]:
    """Measures the state before the first step; returns the report of step 0.

    Args:
      state: on all devices.
    """
    self._start = {}
    found = self.measure(state)
    self._start = {
      'sha256': self._sha256,
      'right': {k: correctness.pack(v) for k, v in self._right.items()},
      'examples': {k: len(v) for k, v in self._right.items()},
    }
    if jax.process_index() == 0:
      text = json.dumps({**found, **self._start}, indent=2) + '\n'
      sidefiles.atomic_write(self._path, text)
    return {'step': 0, 'epoch': 0.0, **found}

  def measure(self, state: TrainState) -> dict[str, Any]:
    """Returns what the encoder is worth now.

    Args:
      state: on all devices.

    Returns:
      online_knn and online_probe, accuracies of at most 2,048 test images given
      at most 4,096 training images (of data with labels), and of the features
      online_feature_rank (effective rank) and online_rankme; since_start, the
      gain of each accuracy since before the first step, with the ends of its 95
      % interval over the images, which are the same; and since_start_verdict,
      of `verdict`.
    """
    job = self._job
    encode = functools.partial(encoder.encode, job, encoder.frozen(job)(state))
    queries, truth, ids = encode(self._queries)
    # As many rows as the health of a batch is measured of, times 8.
    some = queries[: 8 * embedding.ROWS]
    found = {
      'online_feature_rank': embedding.effective_rank(some),
      'online_rankme': embedding.statistics([some])['rankme'],
    }
    self._right = {}
    if not self._labeled:
      return found
    bank, known, _ = features.labeled(encode(self._bank))
    queries, truth, ids = features.labeled((queries, truth, ids))
    self._sha256 = correctness.images_sha256(self._queries, ids, truth)
    classes = job.run.num_classes
    assert classes is not None
    c = job.config.evaluation
    neighbors = knn.knn_predict(
      bank,
      known,
      queries,
      num_classes=classes,
      k=min(c.knn_k, len(bank)),
      temperature=c.knn_temperature,
    )
    predicted = {'knn': neighbors, 'probe': _probe(bank, known, queries)}
    self._right = {kind: p == truth for kind, p in predicted.items()}
    gains = self._since_start()
    if gains:
      found |= {'since_start': gains, 'since_start_verdict': verdict(gains)[0]}
    return {
      **{f'online_{k}': float(np.mean(v)) for k, v in self._right.items()},
      **found,
    }

  def _since_start(self) -> dict[str, tuple[float, float, float]]:
    if self._start.get('sha256') == self._sha256:
      before = {
        kind: correctness.unpack(
          self._start.get('right', {}).get(kind),
          self._start.get('examples', {}).get(kind),
        )
        for kind in _KINDS
      }
      return {
        kind: intervals.paired(self._right[kind], known)
        for kind, known in before.items()
        if known is not None and len(known) == len(self._right[kind])
      }
    return {}

  def judge(self, report: dict[str, Any]) -> None:
    """Says what has become of the features, where it is new, and at the end.

    Args:
      report: of the step that was measured.

    Raises:
      Worse: they are worse, and the run is to stop then.
    """
    word, sentence = verdict(
      report.get('since_start', {}), self._job.modality.plural
    )
    at_end = report['step'] == self._job.run.total_steps
    if word == 'worse' and self._job.config.on_worse == 'stop' and not at_end:
      raise Worse(f'at step {report["step"]:,} {sentence}', report)
    if word and (word != self._said or at_end):
      progress.say(f'step {report["step"]:,}: {sentence}')
    self._said = word


def verdict(
  gains: dict[str, tuple[float, float, float]], plural: str = 'images'
) -> tuple[str, str]:
  """Returns what has become of the features, in a word and in a sentence.

  Args:
    gains: `since_start` of `Watch.measure`.
    plural: what the examples are.

  Returns:
    'better', 'worse', 'no difference', 'mixed', or '' if nothing is known; and
    a sentence with the differences and their intervals.
  """
  if not gains:
    return '', ''
  signs = {
    1 if low > 0 else -1 if high < 0 else 0 for _, low, high in gains.values()
  }
  word = {
    (0,): 'no difference',
    (0, 1): 'better',
    (1,): 'better',
    (-1,): 'worse',
    (-1, 0): 'worse',
  }.get(tuple(sorted(signs)), 'mixed')
  numbers = ', '.join(
    '{} {:+.1f} points ({:+.1f} to {:+.1f})'.format(
      {'knn': 'kNN', 'probe': 'linear probe'}[kind], *(100 * x for x in gain)
    )
    for kind, gain in gains.items()
  )
  of = {
    'better': 'have become better than they were before the first step',
    'worse': 'have become WORSE than they were before the first step',
    'no difference': 'are not known to differ from those before the first step',
    'mixed': 'have become better by one measure and worse by the other',
  }[word]
  return word, f'the features {of}: {numbers}, 95 %, on the same {plural}'


def _probe(
  bank: np.ndarray, labels: np.ndarray, queries: np.ndarray
) -> np.ndarray:
  """Classes by a linear map fitted to one-hot labels by least squares.

  Features are standardized; the penalty is chosen by leaving one out. It is
  quick, and so every epoch can have one; `linear` is what is published.
  """
  # The import takes a second.
  from sklearn.linear_model import RidgeClassifierCV

  mean, std = bank.mean(0), bank.std(0) + 1e-6
  present = np.unique(labels)
  if len(present) < 2:
    return np.full(len(queries), present[0])
  model = RidgeClassifierCV(alphas=_RIDGE)
  model.fit((bank - mean) / std, labels)
  return np.asarray(model.predict((queries - mean) / std))


def _some(split: Split, most: int, seed: int) -> Split:
  """Some examples of a split, drawn from all of it: folders lie by class.

  Of a split with labels they have one.
  """
  if split.size <= most:
    return split
  ids = np.arange(split.size)
  if 0 < labels_lib.unlabeled(split) < split.size:
    ids = np.flatnonzero(np.asarray(split.labels) >= 0)
  rng = np.random.default_rng(seed)
  some = min(most, len(ids))
  ids = np.sort(ids[rng.choice(len(ids), some, replace=False)])
  return split_lib.subset(split, ids, f'{some:,} of them')


def _check(job: build.Job, labeled: bool) -> None:
  """Refuses what would never happen."""
  if labeled:
    return
  best_by = job.config.checkpoint.best_by
  for field, wanted in (
    (f'checkpoint.best_by={best_by}', best_by in _KINDS),
    ('on_worse=stop', job.config.on_worse == 'stop'),
  ):
    if wanted:
      raise Error(
        f'{field} goes by accuracies, and {job.source.name} has no labels, or '
        'none in a test split'
      )
