"""Fine-tuning: the whole encoder trained on with few labels, or with all.

The loop's own step with the objective `supervised`, started from an encoder; or
from random weights, with the same labels, views, steps and grid of rates: less
than a supervised run would get (`supervised`: the pretraining's budget).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.config import Config, Error
from contrastive_jax.data import split as split_lib
from contrastive_jax.evaluation import encoder as encoder_lib
from contrastive_jax.evaluation import features as features_lib
from contrastive_jax.evaluation import linear
from contrastive_jax.training import build, step
from contrastive_jax.training.state import TrainState

# SimCLR's (2002.05709, appendix B.5): 0.05 x batch / 256, Nesterov, no decay,
# no warm-up, crop and flip only, 60 epochs with 1 % of the labels and 30 with
# 10 %. Chosen from a grid around it, and at least so many steps: both ours.
LEARNING_RATES = (0.05, 0.5)
_EPOCHS = ((0.01, 60), (1.0, 30))  # up to this share of the labels
_LEAST_STEPS = 300
# Of the labels, to choose the learning rate by: a fifth, or half of few.
_HELD_OUT, _HELD_OUT_OF_FEW, _FEW = 0.2, 0.5, 5


class Tuned(NamedTuple):
  """A classifier, and how it came about."""

  setting: str
  job: build.Job
  state: TrainState


class FineTuned(NamedTuple):
  """What came of it."""

  setting: str
  predicted: np.ndarray  # int32 [M], of the test images that can be read
  labels: np.ndarray  # int32 [M], theirs
  ids: np.ndarray  # int32 [M], theirs


def finetune(
  job: build.Job,
  state: TrainState | None,
  share: float,
  *,
  seed: int = 0,
  epochs: int | None = None,
) -> FineTuned:
  """Trains encoder and classifier on a class-balanced part of the labels.

  Args:
    job: of the pretraining; its source is used, and its encoder.
    state: of the pretraining; None: random weights.
    share: of the labels, in (0, 1].
    seed: of subset, classifier and order. Subsets of different seeds are
      disjoint where the labels suffice.
    epochs: passes over the part; None: 60 up to 1 % of the labels, else 30;
      at least 300 steps are made.

  Returns:
    Its predictions of the test split, the truth, and what was chosen, which
    no test label had a part in.

  Raises:
    ValueError: there are no labels, or too few, or they come with images
      that do not fit in memory.
  """
  test = job.source.test
  if test is None:
    raise Error(
      f'fine-tuning needs labels and a test split; {job.source.name} lacks one'
    )
  tuned = classifier(job, state, share, seed=seed, epochs=epochs)
  return FineTuned(tuned.setting, *_classify(tuned.job, tuned.state, test))


def classifier(
  job: build.Job,
  state: TrainState | None,
  share: float,
  *,
  seed: int = 0,
  epochs: int | None = None,
) -> Tuned:
  """Trains as `finetune` does, and returns what was trained.

  Args:
    job: as for `finetune`, but that no test split is looked at.
    state: as for `finetune`, and so are the others.
    share: of the labels.
    seed: of subset, classifier and order.
    epochs: passes over the part.

  Raises:
    ValueError: as `finetune`.
  """
  train = job.source.train
  if train.num_classes is None:
    raise Error(
      f'fine-tuning needs labels and a test split; {job.source.name} lacks one'
    )
  labels = train.labels
  if labels is None:
    raise Error(
      f'{train.name} does not fit in memory, and its labels come with its '
      'images: there is no taking a balanced part of it. As folder:PATH it can '
      'be taken; the protocol `supervised` takes all'
    )
  ids = np.flatnonzero(labels >= 0)
  if share < 1:
    members = np.unique(labels[ids], return_counts=True)[1]
    per_class = max(2, round(share * len(ids) / len(members)))
    # Of a rarer class not even so many: balanced is what it is to be.
    per_class = min(per_class, int(members.min()))
    ids = ids[linear.few_labels(labels[ids], per_class, seed=seed)]
  if epochs is None:
    epochs = next(epochs for most, epochs in _EPOCHS if share <= most)
  chosen = LEARNING_RATES[0]
  least = np.unique(labels[ids], return_counts=True)[1].min()
  # Of a single image a class none can be held out, to choose a rate by.
  if len(LEARNING_RATES) > 1 and least > 1:
    kept, held = split_lib.hold_out(
      labels[ids], _HELD_OUT if least >= _FEW else _HELD_OUT_OF_FEW
    )
    held_split = split_lib.subset(train, ids[held], 'held out')
    accuracy = []
    for rate in LEARNING_RATES:
      predicted, truth, _ = _classify(
        *_run(job, state, ids[kept], rate, epochs, seed), held_split
      )
      accuracy.append(np.mean(predicted == truth))
    chosen = LEARNING_RATES[int(np.argmax(accuracy))]
  return Tuned(
    f'{len(ids):,} labels, {epochs} epochs, rate {chosen:g} x batch/256',
    *_run(job, state, ids, chosen, epochs, seed),
  )


def supervised(job: build.Job, *, seed: int = 0) -> FineTuned:
  """Trains the same encoder with all labels: the budget of the pretraining.

  Batch, steps, optimizer and augmentations are those of the pretraining.

  Args:
    job: of the pretraining.
    seed: of the weights.

  Returns:
    As `finetune`.

  Raises:
    ValueError: there are no labels.
  """
  config = _supervised_config(job.config)
  config.steps = job.run.total_steps
  config.seed = seed
  test = job.source.test
  if test is None or job.source.train.num_classes is None:
    raise Error(
      f'a supervised run needs labels and a test split; {job.source.name} '
      'lacks one'
    )
  trained, state = _train(config, job, job.source.train, None)
  return FineTuned(
    f'{job.run.total_steps:,} steps of {job.run.batch_size} images',
    *_classify(trained, state, test),
  )


def _run(job, state, ids, rate, epochs, seed) -> tuple[build.Job, TrainState]:
  """Fine-tunes on some ids."""
  config = _supervised_config(job.config)
  config.seed = seed
  config.encoder.norm = 'global'  # groups would not divide a few labels
  config.augment.update(
    jitter=0.0, grayscale=0.0, blur=(0.0,), solarize=(0.0,), local_crops=0
  )
  config.batch_size = min(config.batch_size, len(ids))
  config.steps = max(_LEAST_STEPS, epochs * len(ids) // config.batch_size)
  config.optimizer.update(
    name='sgd',
    base_learning_rate=rate,
    scaling='linear',
    schedule='cosine',
    warmup_epochs=0.0,
    final_fraction=0.0,
    momentum=0.9,
    nesterov=True,
    weight_decay=0.0,
    weight_decay_end=None,
    bias_and_norm_rate=1.0,
    clip_tensor_norm=0.0,
  )
  train = split_lib.subset(job.source.train, ids, 'with labels')
  return _train(config, job, train, state)


def _supervised_config(config: Config) -> Config:
  config = ml_collections.ConfigDict(config.to_dict())
  # Of two towers it is that of the images; of text, a sentence twice.
  config.text_encoder.name, config.text_encoder.init = '', ''
  config.text.views = 'same'
  config.objective = ml_collections.ConfigDict(
    {'name': 'supervised', 'label_smoothing': 0.0}
  )
  config.optimizer.update(constant_rate=(), frozen=(), frozen_epochs=0.0)
  return config


def _train(
  config: Config,
  job: build.Job,
  train: split_lib.Split,
  pretrained: TrainState | None,
) -> tuple[build.Job, TrainState]:
  source = split_lib.Source(train.name, train, None, job.source.modality)
  mesh = encoder_lib.fitting_mesh(config)
  tuned = build.build(config, mesh, source, job.folder)
  state = build.init_state(tuned)
  if pretrained is not None:
    params, model_state = job.objective.evaluated(
      pretrained.params, pretrained.model_state
    )
    # Copies: the step reuses the memory of the state that it is given.
    encoder, statistics = jax.tree.map(
      lambda x: jnp.copy(jax.device_put(x, NamedSharding(mesh, P()))),
      (params['encoder'], model_state['batch_stats']['encoder']),
    )
    state = state.replace(
      params={**state.params, 'encoder': encoder},
      model_state={
        'batch_stats': {
          **state.model_state['batch_stats'],
          'encoder': statistics,
        }
      },
    )
  train_step = step.mapped(
    step.make_train_step(tuned.objective, tuned.optimizer, tuned.modality),
    tuned.mesh,
    tuned.config.mapping,
  )
  batches = build.train_batches(tuned, 0)
  metrics = None
  for _ in range(tuned.run.total_steps):
    batch = next(batches)
    jax.block_until_ready(metrics)
    (state, metrics), _ = train_step(state, batch)
  batches.close()
  return tuned, state


def _classify(
  job: build.Job, state: TrainState, split: split_lib.Split
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns predicted classes, labels, ids, int32 [M], of what can be read."""
  features, labels, ids = features_lib.labeled(
    encoder_lib.encode(job, encoder_lib.frozen(job)(state), split)
  )
  (layer,) = state.params['classifier'].values()
  logits = features @ np.asarray(layer['kernel']) + np.asarray(layer['bias'])
  return logits.argmax(axis=1).astype(np.int32), labels, ids
