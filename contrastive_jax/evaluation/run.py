"""What a checkpoint of a run is worth, by any of the protocols."""

import functools
import pathlib
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from contrastive_jax.config import Error
from contrastive_jax.data.split import Source

_FINETUNE = re.compile(r'finetune_(\d+(?:\.\d+)?)')
_TRAINED = 'trained encoder'

Result = dict[str, Any]


def evaluate(
  workdir: str | pathlib.Path,
  protocols: Sequence[str],
  *,
  transfer: Sequence[str] = (),
  baselines: bool = False,
  seed: int | None = None,
  step: int | None = None,
  source: Source | None = None,
  prompts: Sequence[str] = (),
  say: Callable[[str], Any] = print,
) -> dict[str, Any]:
  """Evaluates a checkpoint of a run by some protocols.

  Args:
    workdir: of the run; evaluation.json in it keeps the results.
    protocols: see `contrastive_jax.evaluate`; several share the features.
    transfer: other data sources for the protocols of frozen features; if the
      run's own has no labels, or no test split, they are of these alone.
    baselines: also of raw pixels (of text: a bag of words) and of the untrained
      encoder.
    seed: of splits and subsets; None: the run's.
    step: of the checkpoint; None: the newest.
    source: of a run that was given its data in memory; None: config.data's.
    prompts: of zero_shot, with {} for a class; none: ours.
    say: takes the results, a line each, as they come.

  Returns:
    `step` of the checkpoint; `failed`, a sentence for each measurement that
    could not be made, which keeps none of the others from being made; and
    `results`, all that evaluation.json has of that step: a dict each with step,
    protocol, setting, representation, data, metric, value, low, high, examples,
    interval (what `low` and `high` are), seed, headline (False: of a grid, and
    not what was chosen), test_sha256 (what images were tested) and, but for
    a mean over subsets, right (`correctness.pack`: which of them it has right).
    Those of other steps and other seeds stay in the file.

  Raises:
    ValueError: unknown protocol, or one that needs labels where there are none;
      transfer without a protocol of frozen features; a damaged evaluation.json.
    FileNotFoundError: no work folder, no such checkpoint, or no data.
  """
  from contrastive_jax.data import labels
  from contrastive_jax.evaluation import embed, encoder, pairs, record, shown
  from contrastive_jax.training import build

  _check(protocols)
  paired = [p for p in protocols if p in pairs.PROTOCOLS]
  on_own = [
    p for p in protocols if finetune_share(p) is not None or p == 'supervised'
  ]
  frozen = [p for p in protocols if p not in (*paired, *on_own)]
  if transfer and not (frozen or paired):
    raise Error(
      f'transfer is of frozen features, and {protocols[0]} trains the encoder '
      'on: add knn or linear to the protocols'
    )
  path = pathlib.Path(workdir) / 'evaluation.json'
  job, state = encoder.load(workdir, step, source)
  record.check(path)
  seed = int(job.config.seed if seed is None else seed)
  loaded = [
    embed.other_source(job, spec, say, training=True) for spec in transfer
  ]
  measured = [job.source, *loaded]
  of_pairs: dict[str, list[Source]] = {}
  refused: list[str] = []  # what these data are not fit for
  for protocol in paired:
    try:
      of_pairs[protocol] = pairs.fitting(job, measured, protocol)
    except Error as error:
      refused.append(str(error))
  # What was trained without labels is judged by what it is good for elsewhere.
  if loaded and not on_own and _lacks(job.source):
    measured = loaded
  for source in measured if frozen or on_own else ():
    if lack := _lacks(source):
      first = (on_own or frozen)[0] if source is job.source else frozen[0]
      refused.append(f'{first} needs {lack}')
      frozen, on_own = [], []
      break
  if refused and not (of_pairs or frozen or on_own):
    raise Error(refused[0])
  hopeless = [
    sentence
    for source in measured
    for protocol in frozen
    if (
      sentence := labels.lacking(
        source, protocol, job.config.evaluation.labels_per_class
      )
    )
  ]
  rest = on_own or of_pairs
  if hopeless and len(hopeless) == len(measured) * len(frozen) and not rest:
    raise Error(hopeless[0])
  for sentence in hopeless:
    say(sentence)
  make_encoder = encoder.frozen(job)
  encoder.assert_frozen(job, make_encoder(state))
  states: dict[str, Any] = {_TRAINED: state}
  if baselines:
    plain, _ = job.modality.baseline
    states |= {'untrained encoder': build.untrained_state(job), plain: None}
  representations = {n: s and make_encoder(s) for n, s in states.items()}
  step = int(state.step)
  failed = refused

  def attempt(what: str, measure: Callable[[], Any]) -> Any:
    try:
      return measure()
    except (ValueError, RuntimeError) as error:
      logging.debug('raised here', exc_info=True)
      failed.append(f'{what}: {error}')
      return None

  def add(what: str, measure: Callable[[], list[Result]]) -> None:
    results = attempt(what, measure)
    if results is None:
      return
    for result in results:
      if result['headline']:
        say(shown.line(result))
    # At once: what comes next may take hours, or fail.
    record.add(path, [{'step': step, 'seed': seed} | r for r in results])

  for source in measured if frozen else ():
    assert source.test is not None  # or it would lack something
    splits = source.train, source.test
    for name, encode in representations.items():
      place = f'{name}, {source.test.name}'
      rows = attempt(place, lambda e=encode, s=splits: _rows(job, e, s))
      for protocol in frozen if rows is not None else ():
        add(
          f'{protocol}, {place}',
          functools.partial(_frozen, job, source, rows, protocol, name, seed),
        )
  for protocol, found in of_pairs.items():
    for source in found:
      if source is job.source and source.test is None:
        say(f'{source.name} has no test split: {protocol} is of training data')
      for name, own in states.items():
        add(
          f'{protocol}, {name}, {source.name}',
          functools.partial(
            pairs.measure, job, own, source, protocol, name, prompts
          ),
        )
  for protocol in on_own:
    add(protocol, functools.partial(_trained, job, state, protocol, seed))
  results = [r for r in record.read(path) if r['step'] == step]
  return {'step': step, 'results': results, 'failed': failed}


def finetune_share(protocol: str) -> float | None:
  """Returns the share of the labels of finetune_PERCENT; None of others."""
  match = _FINETUNE.fullmatch(protocol)
  return float(match[1]) / 100 if match else None


def _check(names: Sequence[str]) -> None:
  from contrastive_jax.evaluation import pairs, protocols

  if not names:
    raise Error('no protocol is given')
  for name in names:
    share = finetune_share(name)
    if share is not None and not 0 < share <= 1:
      raise Error(f'{name}: there are 0 to 100 % of the labels')
    known = *protocols.names(), *pairs.PROTOCOLS, 'supervised'
    if share is None and name not in known:
      raise Error(
        f'unknown protocol {name!r}; there are {", ".join(known)}, '
        'finetune_PERCENT'
      )


def _lacks(source) -> str:
  """Returns what protocols need and a source has not; '' if it has all."""
  if source.train.num_classes is None:
    return (
      f'labels, and {source.name} has none; without labels there is the '
      'report: python -m contrastive_jax.report'
    )
  if source.test is None or source.test.num_classes is None:
    return f'a test split with labels, and {source.name} has none'
  return ''


def _rows(job, encode, splits) -> list[tuple[np.ndarray, ...]]:
  """Features, labels and ids of each split; pixels if there is no encoder.

  Images without a label are left out.
  """
  from contrastive_jax.evaluation import encoder, features

  if encode is None:
    rows = [encoder.baseline(job, split) for split in splits]
  else:
    rows = [encoder.encode(job, encode, split) for split in splits]
  return [features.labeled(part) for part in rows]


def _frozen(
  job, source, rows, protocol: str, representation: str, seed: int
) -> list[Result]:
  """Results of a protocol of frozen features on one source."""
  from contrastive_jax.evaluation import correctness, protocols

  (train_features, train_labels, _), (test_features, test_labels, ids) = rows
  config = job.config.evaluation
  predictions = protocols.predict(
    protocol,
    train_features,
    train_labels,
    test_features,
    # Not those of test: nothing fitted may depend on its labels.
    num_classes=source.train.num_classes,
    seed=seed,
    labels_per_class=config.labels_per_class,
  )
  # From here on all is chosen and fitted: test labels may be read.
  tested = test_labels, correctness.images_sha256(source.test, ids, test_labels)
  scores = [
    _result(protocol, representation, source, p.setting, p.predicted, *tested)
    | {'headline': p.headline}
    for p in predictions
  ]
  if len(predictions) > 1 and all(p.headline for p in predictions):
    scores = [
      _over_subsets(scores),
      *(s | {'headline': False} for s in scores),
    ]
  return scores


def _trained(job, state, protocol: str, seed: int) -> list[Result]:
  """Results of protocols that train the encoder on."""
  from contrastive_jax.evaluation import correctness, finetune

  share = finetune_share(protocol)
  if share is None:
    runs = {'trained with labels': finetune.supervised(job, seed=seed)}
  else:
    runs = {
      name: finetune.finetune(job, start, share, seed=seed)
      for name, start in ((_TRAINED, state), ('random weights', None))
    }
  return [
    _result(
      protocol,
      name,
      job.source,
      run.setting,
      run.predicted,
      run.labels,
      correctness.images_sha256(job.source.test, run.ids, run.labels),
    )
    for name, run in runs.items()
  ]


def _result(
  protocol: str,
  representation: str,
  source,
  setting: str,
  predicted: np.ndarray,
  labels: np.ndarray,
  images: str,
) -> Result:
  from contrastive_jax.evaluation import correctness, protocols

  value, low, high = protocols.interval(predicted, labels)
  return {
    'protocol': protocol,
    'setting': setting,
    'representation': representation,
    'data': source.test.name,
    'metric': 'accuracy',
    'value': value,
    'low': low,
    'high': high,
    'examples': len(labels),
    'interval': '95 % over test examples (Wilson)',
    'headline': True,
    'test_sha256': images,
    'right': correctness.pack(predicted == labels),
  }


def _over_subsets(scores: list[Result]) -> Result:
  """Mean of some subsets of labels; its interval covers test images, too."""
  values = [score['value'] for score in scores]
  mean = statistics.mean(values)
  import scipy.stats  # takes half a second

  # The subsets share their test images, whose choice their spread hides.
  of_images = mean * (1 - mean) / scores[0]['examples']
  error = (statistics.variance(values) / len(values) + of_images) ** 0.5
  half = float(scipy.stats.t.ppf(0.975, len(values) - 1)) * error
  one = {k: v for k, v in scores[0].items() if k != 'right'}
  return one | {
    'setting': f'mean over {len(values)} subsets of labels',
    'value': mean,
    'low': max(0.0, mean - half),
    'high': min(1.0, mean + half),
    'interval': f'95 % over {len(values)} subsets of labels (Student t) and '
    'over test examples',
  }
