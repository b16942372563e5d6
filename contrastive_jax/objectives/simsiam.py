"""SimSiam: a view predicts the other, whose side takes no gradient.

Chen and He 2020 (arXiv 2011.10566).
Official code: facebookresearch/simsiam.
"""

import functools
from typing import Any

import jax

from contrastive_jax.config import Config
from contrastive_jax.losses.cosine import negative_cosine
from contrastive_jax.models import branches, heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = (
  'stop_gradient',
  'projector_layers',
  'projector_hidden_size',
  'projector_output_size',
  'predictor_hidden_size',
)

CAUSES = {
  'at chance': (
    'a learning rate too high or too low, views that share nothing (crops or '
    'jitter too strong)'
  ),
  'partial collapse': (
    'an encoder too small for the data, a learning rate or a weight decay too '
    'high, too small a batch for the batch norms'
  ),
  'collapsed': (
    'stop_gradient is off, the predictor learns too slowly (keep its rate: '
    "optimizer.constant_rate = ('predictor',)), learning rate too high"
  ),
}

# PyTorch's default, U(-1, 1) / sqrt(inputs). SGD notices: the norms behind the
# matrices make their scale a factor of the learning rate.
_KERNEL_INIT = jax.nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def make(config: Config, run: Run) -> Objective:
  """Returns SimSiam as `config.objective` has it.

  The predictor's learning rate does not decay in the official recipe: that is
  `optimizer.constant_rate`.

  Args:
    config: `objective.stop_gradient`, False to watch the collapse;
      `projector_layers` (3; 2 on CIFAR), `projector_hidden_size`,
      `projector_output_size`, `predictor_hidden_size`.
    run: sizes.

  Returns:
    The objective.

  Raises:
    ValueError: the config's values make no sense.
  """
  c = config.objective
  if c.projector_layers < 1:
    raise ValueError(f'objective.projector_layers is {c.projector_layers}')
  views, crops = len(config.augment.blur), config.augment.local_crops
  if views != 2 or crops:
    raise ValueError(
      f'SimSiam compares 2 views, not {views} (augment.blur) and {crops} local '
      'crops'
    )
  encoder = resnet.make_encoder(config.encoder, run.image_size)
  head: Any = dict(
    norm_group=encoder.norm_group, kernel_init=_KERNEL_INIT, dtype=encoder.dtype
  )
  projector = heads.MLP(
    sizes=[c.projector_hidden_size] * (c.projector_layers - 1)
    + [c.projector_output_size],
    output_norm='plain',
    **head,
  )
  predictor = heads.MLP(
    sizes=[c.predictor_hidden_size, c.projector_output_size],
    output_bias=True,
    **head,
  )
  modules = {'encoder': encoder, 'projector': projector, 'predictor': predictor}

  def init(rng, batch):
    params, batch_stats = branches.init_branch(rng, modules, batch['views'][0])
    return params, {'batch_stats': batch_stats}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del rng, step
    batch_stats = model_state['batch_stats']
    projections, predictions = [], []
    # A pass, and so batch statistics, of its own for each view, as official.
    for view in batch['views']:
      outputs, batch_stats = branches.run_branch(
        modules, params, batch_stats, (view,), train=True, axis_name=axis_name
      )
      projections += outputs['projector']
      predictions += outputs['predictor']
    targets = projections
    if c.stop_gradient:
      targets = jax.lax.stop_gradient(projections)
    value = 0.5 * (
      negative_cosine(predictions[0], targets[1])
      + negative_cosine(predictions[1], targets[0])
    )
    return value, ({'batch_stats': batch_stats}, {}, tuple(projections))

  return Objective(
    init=init,
    loss=loss,
    after_update=lambda params, model_state, step: model_state,
    # Directions that have nothing to do with each other.
    chance=lambda batch_size: 0.0,
    features=functools.partial(branches.frozen_features, encoder),
    causes=CAUSES,
  )
