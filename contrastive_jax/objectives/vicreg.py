"""VICReg: views alike, in dimensions that vary and do not correlate.

Bardes, Ponce and LeCun 2021 (arXiv 2105.04906).
Official code: facebookresearch/vicreg.
"""

import functools

import jax
import jax.numpy as jnp

from contrastive_jax.config import Config
from contrastive_jax.losses.vicreg import chance_value, vicreg_and_terms
from contrastive_jax.models import branches, heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = (
  'similarity_weight',
  'variance_weight',
  'covariance_weight',
  'variance_form',
  'projector_layers',
  'projector_hidden_size',
  'projector_output_size',
)

CAUSES = {
  'at chance': (
    'embeddings shrink to a point or have not left it: variance_weight small '
    'beside similarity_weight, or a learning rate too high or too low'
  ),
  'partial collapse': (
    'covariance_weight too small, a projector too narrow, a learning rate too '
    'high'
  ),
  'collapsed': (
    'variance_weight is 0 or small beside similarity_weight, learning rate or '
    'weight decay too high, or constant images'
  ),
}

# PyTorch's default, U(-1, 1) / sqrt(inputs): no norm follows the last matrix,
# so that it sets the standard deviations that the run begins with.
_KERNEL_INIT = jax.nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def make(config: Config, run: Run) -> Objective:
  """Returns VICReg as `config.objective` has it.

  Args:
    config: `objective.similarity_weight`, `variance_weight` and
      `covariance_weight` (25, 25 and 1; 0 drops a term); `variance_form`,
      'code' (each view's term is halved, the official code) or 'paper' (not
      halved; solo-learn); `projector_layers`, `projector_hidden_size`,
      `projector_output_size`.
    run: sizes.

  Returns:
    The objective. Its chance value is the loss of an encoder that has collapsed
    to a point.

  Raises:
    ValueError: the config's values make no sense.
  """
  c = config.objective
  for name in ('similarity_weight', 'variance_weight', 'covariance_weight'):
    if c[name] < 0:
      raise ValueError(f'objective.{name} is {c[name]}, below 0')
  chance = chance_value(
    variance_weight=c.variance_weight, variance_form=c.variance_form
  )
  if c.projector_layers < 1:
    raise ValueError(f'objective.projector_layers is {c.projector_layers}')
  views, crops = len(config.augment.blur), config.augment.local_crops
  if views != 2 or crops:
    raise ValueError(
      f'VICReg compares 2 views, not {views} (augment.blur) and {crops} local '
      'crops'
    )
  encoder = resnet.make_encoder(config.encoder, run.image_size)
  # The official hidden layers have a bias too, which the norm behind them
  # takes away again: no effect, no gradient.
  projector = heads.MLP(
    sizes=[c.projector_hidden_size] * (c.projector_layers - 1)
    + [c.projector_output_size],
    norm_group=encoder.norm_group,
    kernel_init=_KERNEL_INIT,
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder, 'projector': projector}

  def init(rng, batch):
    params, batch_stats = branches.init_branch(rng, modules, batch['views'][0])
    return params, {'batch_stats': batch_stats}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del rng, step
    batch_stats = model_state['batch_stats']
    embeddings = []
    # A pass, and so batch statistics, of its own for each view, as official.
    for view in batch['views']:
      outputs, batch_stats = branches.run_branch(
        modules, params, batch_stats, (view,), train=True, axis_name=axis_name
      )
      embeddings += outputs['projector']
    value, metrics = vicreg_and_terms(
      *embeddings,
      similarity_weight=c.similarity_weight,
      variance_weight=c.variance_weight,
      covariance_weight=c.covariance_weight,
      variance_form=c.variance_form,
      axis_name=axis_name,
    )
    # Embeddings that shrink towards a point keep their directions for long.
    metrics['collapse_gauge'] = jnp.minimum(1.0, metrics.pop('mean_std'))
    model_state = {'batch_stats': batch_stats}
    return value, (model_state, metrics, tuple(embeddings))

  return Objective(
    init=init,
    loss=loss,
    after_update=lambda params, model_state, step: model_state,
    chance=lambda batch_size: chance,
    features=functools.partial(branches.frozen_features, encoder),
    causes=CAUSES,
  )
