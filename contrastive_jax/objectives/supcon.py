"""SupCon: all views of all images of one class agree, against the other ones.

Khosla et al. 2020 (arXiv 2004.11362). Official code: HobbitLong/SupContrast
(PyTorch, CIFAR) and google-research/google-research, supcon/ (ImageNet).
"""

import dataclasses
import math

import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.losses._supcon import supcon_and_statistics
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_labels, field


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `temperature`; `base_temperature`: the loss is scaled by temperature /
  base_temperature, which LARS does not notice (0.07, the PyTorch code; 1,
  the TensorFlow code; the temperature itself, the paper);
  `normalize_features`: whether the projector sees the encoder's features at
  length 1 (the paper and the TensorFlow code) or as they are (the PyTorch
  code); `projector_layers`, `projector_hidden_size` (0: as wide as the
  encoder's output, the official choice), `projector_output_size`. Any
  number of views.
  """

  temperature: float = field(0.1, above=0)
  base_temperature: float = field(1.0, above=0)
  normalize_features: bool = field(True)
  projector_layers: int = field(1, least=1)
  projector_hidden_size: int = field(0, least=0)
  projector_output_size: int = field(128, least=1)


CAUSES = {
  'at chance': (
    'labels that have nothing to do with the images, a learning rate too high '
    'or too low, a temperature far from 0.1'
  ),
  'collapsed': (
    'no two classes in a batch, so that nothing is pushed apart, or a '
    'numerical fault: learning rate or weight decay too high'
  ),
}
_PARTIAL = (
  'few classes in a batch (sorted data, or a small batch), or a few classes '
  'that have nearly all images'
)
# The ideal embedding of C classes is C points, whose effective rank is C - 1.
_LEAST_CLASSES_FOR_RANK = 8


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns SupCon as `config.objective` has it."""
  num_classes = check_labels('supcon', run)
  num_views = run.global_views + run.local_crops
  hidden_size = c.projector_hidden_size or encoder.features
  projector = heads.MLP(
    sizes=[hidden_size] * (c.projector_layers - 1) + [c.projector_output_size],
    hidden_norm='none',
    hidden_bias=True,
    output_bias=True,
    kernel_init=heads.torch_init,
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder.module, 'projector': projector}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    outputs, batch_stats = branches.run_branch(
      {'encoder': encoder.module},
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
      rng=keys.draw(rng, keys.Draw.DROPOUT),
    )
    inputs = outputs['encoder']
    if c.normalize_features:
      inputs = tuple(l2_normalize(h) for h in inputs)
    outputs, batch_stats = branches.run_branch(
      {'projector': projector},
      params,
      batch_stats,
      inputs,
      train=True,
      axis_name=axis_name,
      rng=keys.draw(rng, keys.Draw.DROPOUT),
    )
    embeddings = outputs['projector']
    # An image without a label is a class of its own, unlike any other number.
    labels = jnp.where(batch['label'] < 0, -1 - batch['id'], batch['label'])
    value, metrics = supcon_and_statistics(
      embeddings,
      labels,
      temperature=c.temperature,
      base_temperature=c.base_temperature,
      axis_name=axis_name,
    )
    watched = embeddings[: run.global_views]  # without local crops
    return value, ({'batch_stats': batch_stats}, metrics, watched)

  causes = dict(CAUSES)
  if num_classes >= _LEAST_CLASSES_FOR_RANK:
    causes['partial collapse'] = _PARTIAL

  def chance(batch_size):
    # Exact where all embeddings are alike; directions drawn at random give a
    # little more, by the spread of their cosines over 2 T^2.
    scale = c.temperature / c.base_temperature
    return scale * math.log(num_views * batch_size - 1)

  return Objective(
    modules=modules,
    init=branches.init_fn(modules),
    loss=loss,
    chance=chance,
    causes=causes,
  )
