"""A classifier of a run: fitted once, kept in its work folder, put to images.

Either a linear head of the frozen encoder, or the encoder trained on with its
head; with the classes' names, and with what says how far an image is from those
that it was fitted on.
"""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.evaluation import encoder as encoder_lib
from contrastive_jax.evaluation import features, finetune, knn, linear, run
from contrastive_jax.training import build, identity
from contrastive_jax.training.state import TrainState

# Training images that others are compared with, and those of them whose own
# nearest neighbor is looked for.
_BANK, _JUDGES = 100_000, 10_000
_SEED = 0  # of the choice of both


class Classifier(NamedTuple):
  """See the module.

  Attributes:
    about: head, step, how it was chosen, accuracy on the test split if there
      is one, and what it was fitted to.
    class_names: one a column of the logits.
    weights: float32 [d, classes]; logits are vectors @ weights + bias.
    bias: float32 [classes].
    bank: float32 [n, d], vectors of up to 100,000 training images.
    own: float32 [m], rising: the distances of up to 10,000 of these from their
      nearest other one.
    tuned: parameters and statistics of the encoder, where it was trained on.
  """

  about: dict[str, Any]
  class_names: tuple[str, ...]
  weights: np.ndarray
  bias: np.ndarray
  bank: np.ndarray
  own: np.ndarray
  tuned: dict[str, np.ndarray]

  def probabilities(self, vectors: np.ndarray) -> np.ndarray:
    """Returns float64 [n, classes], the softmax of the logits."""
    logits = vectors.astype(np.float64) @ self.weights + self.bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)

  def distances(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far vectors are from the training data.

    Args:
      vectors: float32 [n, d].

    Returns:
      The cosine distance (1 - cosine) to the nearest of the bank [n], and
      the percentile of that among `own` [n]: of 100 training images, how many
      have their own nearest neighbor nearer than that.
    """
    similarity, _ = knn.nearest(self.bank, vectors, k=1)
    distance = np.maximum(0, 1 - similarity[:, 0])
    nearer = np.searchsorted(self.own, distance, side='left')
    return distance, 100 * nearer / max(len(self.own), 1)

  def encoder(self, job: build.Job, state: TrainState) -> encoder_lib.Encoder:
    """Returns what makes the vectors that it takes."""
    frozen = encoder_lib.frozen(job)(state)
    if not self.tuned:
      return frozen
    tree = flax.traverse_util.unflatten_dict(self.tuned, sep='/')
    return jax.tree_util.Partial(
      frozen.func,
      {'encoder': tree['params']},
      {'batch_stats': {'encoder': tree.get('batch_stats', {})}},
    )


def share(head: str) -> float | None:
  """Returns the share of the labels that a head is fine-tuned on.

  Args:
    head: 'linear' or 'finetune_PERCENT'.

  Returns:
    None of 'linear'.

  Raises:
    Error: it is neither.
  """
  if head == 'linear':
    return None
  found = run.finetune_share(head)
  if found is None or not 0 < found <= 1:
    raise Error(f'--head={head}: there are linear and finetune_PERCENT')
  return found


def of_run(
  workdir: str | pathlib.Path,
  job: build.Job,
  state: TrainState,
  head: str,
  say: Callable[[str], Any] = print,
) -> Classifier:
  """Returns a run's classifier, which is fitted if it is not there.

  It is kept in WORKDIR/classifiers, and fitted anew if the encoder or the
  labels are others than those that it was fitted to.

  Args:
    workdir: of the run.
    job: of the run, with its labels.
    state: of a checkpoint.
    head: 'linear', the probe of the protocol of that name, or
      'finetune_PERCENT', the encoder trained on with a share of the labels.
    say: is told what is being done.

  Raises:
    Error: no such head, or no labels.
  """
  share(head)
  train = job.source.train
  if train.num_classes is None:
    raise Error(f'{head} is fitted on labels, and {job.source.name} has none')
  path = pathlib.Path(workdir) / 'classifiers' / f'{head}_{state.step}.npz'
  fitted_to = {
    'encoder': encoder_lib.fingerprint(encoder_lib.frozen(job)(state)),
    'data': identity.of_data(train),
  }
  if path.exists():
    found = load(path)
    if all(found.about.get(key) == value for key, value in fitted_to.items()):
      return found
    say(f'{path} is of another encoder or other labels: it is fitted anew')
  say(f'fitting {head} on the labels of {train.name}')
  found = fit(job, state, head)
  found.about.update(fitted_to)
  path.parent.mkdir(exist_ok=True)
  save(found, path)
  say(f'{_told(found.about)}: {path}')
  return found


def fit(job: build.Job, state: TrainState, head: str) -> Classifier:
  """Fits a head on the labels of a run.

  Args:
    job: of the run.
    state: of a checkpoint.
    head: as for `of_run`.

  Raises:
    Error: the labels do not suffice.
  """
  source, seed = job.source, job.config.seed
  names = tuple(map(str, source.train.class_names or ()))
  part = share(head)
  tuned: dict[str, np.ndarray] = {}
  if part is None:
    encode = encoder_lib.frozen(job)(state)
    vectors, labels = _vectors(job, encode, source.train)
    features.check(vectors, labels, len(names), 'training')
    probe = linear.fit_probe(vectors, labels, num_classes=len(names), seed=seed)
    setting = f'decay {probe.weight_decay:g} L'
    weights = probe.weights / probe.std[:, None]
    bias = probe.bias - probe.mean @ weights
  else:
    setting, tuned_job, tuned_state = finetune.classifier(
      job, state, part, seed=seed
    )
    encode = encoder_lib.frozen(tuned_job)(tuned_state)
    vectors, _ = _vectors(job, encode, source.train)
    tree = {
      'params': tuned_state.params['encoder'],
      'batch_stats': tuned_state.model_state['batch_stats']['encoder'],
    }
    flat = flax.traverse_util.flatten_dict(jax.device_get(tree), sep='/')
    tuned = {name: np.asarray(array) for name, array in flat.items()}
    (layer,) = tuned_state.params['classifier'].values()
    weights, bias = np.asarray(layer['kernel']), np.asarray(layer['bias'])
  rng = np.random.default_rng(_SEED)
  bank = vectors[np.sort(rng.permutation(len(vectors))[:_BANK])]
  about = {
    'head': head,
    'step': int(state.step),
    'setting': setting,
    'trained_on': source.train.name,
    'accuracy': None,
    'test_images': 0,
  }
  found = Classifier(
    about, names, weights, bias, bank, own_distances(bank, rng), tuned
  )
  if source.test is not None and source.test.num_classes:
    asked, truth = _vectors(job, encode, source.test)
    right = found.probabilities(asked).argmax(axis=1) == truth
    about.update(accuracy=float(np.mean(right)), test_images=len(truth))
  return found


def own_distances(bank: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns how far some vectors are from the nearest other one, rising.

  Args:
    bank: float32 [n, d].
    rng: chooses up to 10,000 of them.

  Returns:
    Cosine distances, float32 [min(n, 10,000)]; none if there is but one.
  """
  if len(bank) < 2:
    return np.zeros(0, np.float32)
  judges = np.sort(rng.permutation(len(bank))[:_JUDGES])
  similarity, index = knn.nearest(bank, bank[judges], k=2)
  others = index != judges[:, None]
  # A copy of itself may stand before it, even so that it is not found.
  others[others.all(axis=1), -1] = False
  return np.sort(np.maximum(0, 1 - similarity[others])).astype(np.float32)


def _vectors(job, encode, split) -> tuple[np.ndarray, np.ndarray]:
  vectors, labels, _ = features.labeled(encoder_lib.encode(job, encode, split))
  return vectors, labels


def save(found: Classifier, path: pathlib.Path) -> None:
  """Writes a classifier, as a whole or not at all.

  Args:
    found: the classifier.
    path: of an .npz, in a folder that is there.
  """
  arrays = {name: getattr(found, name) for name in _ARRAYS}
  tuned = {f'tuned/{name}': array for name, array in found.tuned.items()}
  temporary = path.with_name(f'.{path.name}.tmp')
  with temporary.open('wb') as file:
    np.savez(
      file,
      about=np.array(json.dumps(found.about)),
      class_names=np.array(found.class_names, str),
      allow_pickle=False,
      **arrays,
      **tuned,
    )
  os.replace(temporary, path)


def load(path: pathlib.Path) -> Classifier:
  """Returns what `save` wrote.

  Args:
    path: of the .npz.

  Raises:
    Error: it is damaged.
  """
  try:
    # Of a damaged file NumPy would leave the one open that it opens itself.
    with path.open('rb') as data, np.load(data, allow_pickle=False) as file:
      return Classifier(
        about=json.loads(str(file['about'])),
        class_names=tuple(map(str, file['class_names'])),
        **{name: file[name] for name in _ARRAYS},
        tuned={
          name.removeprefix('tuned/'): file[name]
          for name in file.files
          if name.startswith('tuned/')
        },
      )
  except Exception as error:  # of a damaged archive they are of many classes
    raise Error(
      f'{path} is damaged ({type(error).__name__}): delete it, and it is '
      'fitted anew'
    ) from error


_ARRAYS = ('weights', 'bias', 'bank', 'own')


def _told(about: dict[str, Any]) -> str:
  text = f'{about["head"]} of step {about["step"]:,} ({about["setting"]})'
  if about['accuracy'] is None:
    return text
  return (
    f'{text}, right on {100 * about["accuracy"]:.1f} % of '
    f'{about["test_images"]:,} test images'
  )
