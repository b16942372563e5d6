"""SupCon: all views of all images of one class agree, against the other ones.

Khosla et al. 2020 (arXiv 2004.11362). Official code: HobbitLong/SupContrast
(PyTorch, CIFAR) and google-research/google-research, supcon/ (ImageNet).
"""

import functools
import math

from contrastive_jax.config import Config
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.losses.supcon import supcon_and_statistics
from contrastive_jax.models import branches, heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = (
  'temperature',
  'base_temperature',
  'normalize_features',
  'projector_layers',
  'projector_hidden_size',
  'projector_output_size',
)

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


def make(config: Config, run: Run) -> Objective:
  """Returns SupCon as `config.objective` has it.

  Args:
    config: `objective.temperature`; `base_temperature`: the loss is scaled by
      temperature / base_temperature, which LARS does not notice (0.07, the
      PyTorch code; 1, the TensorFlow code; the temperature itself, the paper);
      `normalize_features`: whether the projector sees the encoder's features
      at length 1 (the paper and the TensorFlow code) or as they are (the
      PyTorch code); `projector_layers`, `projector_hidden_size` (0: as wide as
      the encoder's output, the official choice), `projector_output_size`. Any
      number of views.
    run: sizes.

  Returns:
    The objective.

  Raises:
    ValueError: the config's values make no sense, or there are no labels.
  """
  c = config.objective
  if run.num_classes is None:
    raise ValueError(f'supcon needs labels; {config.data.source} has none')
  for field in ('temperature', 'base_temperature'):
    if c[field] <= 0:
      raise ValueError(f'objective.{field} is {c[field]}, not positive')
  if c.projector_layers < 1:
    raise ValueError(f'objective.projector_layers is {c.projector_layers}')
  num_views = len(config.augment.blur) + config.augment.local_crops
  encoder = resnet.make_encoder(config.encoder, run.image_size)
  hidden_size = c.projector_hidden_size or encoder.features
  projector = heads.MLP(
    sizes=[hidden_size] * (c.projector_layers - 1) + [c.projector_output_size],
    hidden_norm='none',
    hidden_bias=True,
    output_bias=True,
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder, 'projector': projector}

  def init(rng, batch):
    params, batch_stats = branches.init_branch(rng, modules, batch['views'][0])
    return params, {'batch_stats': batch_stats}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del rng, step
    outputs, batch_stats = branches.run_branch(
      {'encoder': encoder},
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
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
    )
    embeddings = outputs['projector']
    value, metrics = supcon_and_statistics(
      embeddings,
      batch['label'],
      temperature=c.temperature,
      base_temperature=c.base_temperature,
      axis_name=axis_name,
    )
    watched = embeddings[: len(config.augment.blur)]  # without local crops
    return value, ({'batch_stats': batch_stats}, metrics, watched)

  causes = dict(CAUSES)
  if run.num_classes >= _LEAST_CLASSES_FOR_RANK:
    causes['partial collapse'] = _PARTIAL

  def chance(batch_size):
    # Exact where all embeddings are alike; directions drawn at random give a
    # little more, by the spread of their cosines over 2 T^2.
    scale = c.temperature / c.base_temperature
    return scale * math.log(num_views * batch_size - 1)

  return Objective(
    init=init,
    loss=loss,
    after_update=lambda params, model_state, step: model_state,
    chance=chance,
    features=functools.partial(branches.frozen_features, encoder),
    causes=causes,
  )
