"""Classes by their names alone: which of them is an image nearest to?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data.split import Source
from contrastive_jax.evaluation import correctness, encoder, features, intervals
from contrastive_jax.training import build
from contrastive_jax.training.state import TrainState

# Ours; CLIP's 80 for ImageNet are in its notebook. {} is the class.
PROMPTS = ('{}', 'a {}', 'a picture of a {}', 'a drawing of a {}')


def measure(
  job: build.Job,
  state: TrainState,
  source: Source,
  prompts: Sequence[str],
  representation: str,
) -> dict[str, Any]:
  """Classifies the test images of a source, without a label of training.

  Every class is a mean of its prompts: each is embedded and normalized, and so
  is the mean. An image is of the class whose vector is nearest.

  Args:
    job: of a run with a tower of text.
    state: of the run.
    source: with labels and a test split.
    prompts: of each class, with {} for its name.
    representation: its name, for the result.

  Returns:
    A result as `run.evaluate` has them.

  Reference: Radford et al. 2021 (CLIP, 2103.00020), section 3.1; open_clip,
  zero_shot_classifier.py.
  """
  split = source.test
  assert split is not None and split.class_names
  if wrong := [prompt for prompt in prompts if '{}' not in prompt]:
    raise Error(
      f'the prompt {wrong[0]!r} has no {{}} for the name of the class'
    )
  image, text = job.objective.common_space()
  images, labels, ids = features.labeled(
    encoder.encode(job, encoder.frozen(job, image)(state), split)
  )
  names = [
    prompt.replace('{}', name.replace('_', ' '))
    for name in split.class_names
    for prompt in prompts
  ]
  texts = encoder.encode_texts(job, encoder.frozen(job, text)(state), names)
  texts = features.unit(texts).reshape(len(split.class_names), len(prompts), -1)
  classes = features.unit(texts.mean(axis=1))
  right = np.argmax(features.unit(images) @ classes.T, axis=1) == labels
  low, high = intervals.wilson(int(right.sum()), len(right))
  return {
    'protocol': 'zero_shot',
    'setting': f'{len(prompts)} prompts a class, as {prompts[0]!r}',
    'representation': representation,
    'data': split.name,
    'metric': 'accuracy',
    'value': float(np.mean(right)),
    'low': low,
    'high': high,
    'examples': len(right),
    'interval': '95 % over test examples (Wilson)',
    'headline': True,
    'test_sha256': correctness.images_sha256(split, ids, labels),
    'right': correctness.pack(right),
  }
