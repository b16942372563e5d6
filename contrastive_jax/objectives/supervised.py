"""The supervised baseline: a linear classifier and cross entropy, same loop.

He et al. 2015 (arXiv 1512.03385); the classifier's initial values: Goyal et al.
2017 (arXiv 1706.02677), section 5.1.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from contrastive_jax import keys
from contrastive_jax.losses import gather
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_labels, field


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `label_smoothing`: share of the target that is spread over all classes.
  Any number of views; each is classified on its own. Images without a label
  count nothing.
  """

  label_smoothing: float = field(0.0, least=0, below=1)


# A collapse of the features shows in the loss. Their rank would tell nothing:
# features of C classes may well lie in C - 1 dimensions, and all are positive.
CAUSES = {
  'at chance': (
    'labels that have nothing to do with the images, a learning rate too high '
    'or too low, or so much augmentation that classes look alike'
  )
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns the supervised baseline."""
  num_classes = check_labels('supervised', run)
  classifier = heads.MLP(
    sizes=[num_classes],
    output_bias=True,
    kernel_init=jax.nn.initializers.normal(0.01),
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder.module, 'classifier': classifier}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    outputs, batch_stats = branches.run_branch(
      modules,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
      rng=keys.draw(rng, keys.Draw.DROPOUT),
    )
    logits = jnp.stack(outputs['classifier'])
    targets = optax.smooth_labels(
      jax.nn.one_hot(batch['label'], num_classes), c.label_smoothing
    )
    # Images without a label count nothing, whichever replica has them.
    known = (batch['label'] >= 0).astype(jnp.float32)
    share = jnp.maximum(gather.mean(jnp.mean(known), axis_name), 1e-6)
    weights = known / share
    losses = optax.softmax_cross_entropy(logits, targets)
    value = jnp.mean(losses * weights)
    correct = jnp.argmax(logits, axis=-1) == batch['label']
    metrics = {'accuracy': jnp.mean(correct * weights)}
    watched = outputs['encoder'][: run.global_views]
    return value, ({'batch_stats': batch_stats}, metrics, watched)

  return Objective(
    modules=modules,
    init=branches.init_fn(modules),
    loss=loss,
    chance=lambda batch_size: math.log(num_classes),
    causes=CAUSES,
  )
