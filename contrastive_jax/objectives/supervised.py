"""The supervised baseline: a linear classifier and cross entropy, same loop.

He et al. 2015 (arXiv 1512.03385); the classifier's initial values: Goyal et al.
2017 (arXiv 1706.02677), section 5.1.
"""

import functools
import math

import jax
import jax.numpy as jnp
import optax

from contrastive_jax.config import Config
from contrastive_jax.models import branches, heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = ('label_smoothing',)

# A collapse of the features shows in the loss. Their rank would tell nothing:
# features of C classes may well lie in C - 1 dimensions, and all are positive.
CAUSES = {
  'at chance': (
    'labels that have nothing to do with the images, a learning rate too high '
    'or too low, or so much augmentation that classes look alike'
  )
}


def make(config: Config, run: Run) -> Objective:
  """Returns the supervised baseline.

  Args:
    config: `objective.label_smoothing`: share of the target that is spread over
      all classes. Any number of views; each is classified on its own.
    run: sizes.

  Returns:
    The objective.

  Raises:
    ValueError: the config's values make no sense, or there are no labels.
  """
  smoothing = config.objective.label_smoothing
  if run.num_classes is None:
    raise ValueError(f'supervised needs labels; {config.data.source} has none')
  if not 0 <= smoothing < 1:
    raise ValueError(f'objective.label_smoothing is {smoothing}, not in [0, 1)')
  num_classes = run.num_classes
  encoder = resnet.make_encoder(config.encoder, run.image_size)
  classifier = heads.MLP(
    sizes=[num_classes],
    output_bias=True,
    kernel_init=jax.nn.initializers.normal(0.01),
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder, 'classifier': classifier}

  def init(rng, batch):
    params, batch_stats = branches.init_branch(rng, modules, batch['views'][0])
    return params, {'batch_stats': batch_stats}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del rng, step
    outputs, batch_stats = branches.run_branch(
      modules,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
    )
    logits = jnp.stack(outputs['classifier'])
    targets = optax.smooth_labels(
      jax.nn.one_hot(batch['label'], num_classes), smoothing
    )
    value = jnp.mean(optax.softmax_cross_entropy(logits, targets))
    correct = jnp.argmax(logits, axis=-1) == batch['label']
    metrics = {'accuracy': jnp.mean(correct.astype(jnp.float32))}
    watched = outputs['encoder'][: len(config.augment.blur)]
    return value, ({'batch_stats': batch_stats}, metrics, watched)

  return Objective(
    init=init,
    loss=loss,
    after_update=lambda params, model_state, step: model_state,
    chance=lambda batch_size: math.log(num_classes),
    features=functools.partial(branches.frozen_features, encoder),
    causes=CAUSES,
  )
