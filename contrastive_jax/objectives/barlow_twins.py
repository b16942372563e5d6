"""Barlow Twins: each dimension agrees over the views, and with no other.

Zbontar et al. 2021 (arXiv 2103.03230).
Official code: facebookresearch/barlowtwins.
"""

import functools

from contrastive_jax.config import Config
from contrastive_jax.losses.barlow_twins import barlow_twins_and_terms
from contrastive_jax.models import branches, heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = (
  'redundancy_weight',
  'loss_scale',
  'projector_layers',
  'projector_hidden_size',
  'projector_output_size',
)

CAUSES = {
  'at chance': (
    'a learning rate too high or too low, views that share nothing, a loss '
    'averaged where it is to be summed (loss_scale too small)'
  ),
  'partial collapse': (
    'redundancy_weight too small, a projector too narrow, a learning rate too '
    'high'
  ),
  'collapsed': (
    'constant embeddings are at chance here, so a numerical fault: learning '
    'rate or weight decay too high, or constant images'
  ),
}


def make(config: Config, run: Run) -> Objective:
  """Returns Barlow Twins as `config.objective` has it.

  The gradient is the true one of the global batch's loss. The official code's
  is 1/R of it on R GPUs, which LARS hides in the weights and not in the biases
  and norms: their rate is `optimizer.bias_and_norm_rate`.

  Args:
    config: `objective.redundancy_weight`, lambda; `loss_scale`, a factor on the
      loss (1: the paper; solo-learn 0.1), which LARS does not notice in the
      weights; `projector_layers`, `projector_hidden_size`,
      `projector_output_size`.
    run: sizes.

  Returns:
    The objective. Its chance value is the projector's output size, times
    loss_scale: of constant embeddings exactly, of views that have nothing to do
    with each other nearly. Random weights start above it, for many of their
    dimensions tell the same.

  Raises:
    ValueError: the config's values make no sense.
  """
  c = config.objective
  if c.redundancy_weight < 0:
    raise ValueError(
      f'objective.redundancy_weight is {c.redundancy_weight}, below 0'
    )
  if c.loss_scale <= 0:
    raise ValueError(f'objective.loss_scale is {c.loss_scale}, not positive')
  if c.projector_layers < 1:
    raise ValueError(f'objective.projector_layers is {c.projector_layers}')
  views, crops = len(config.augment.blur), config.augment.local_crops
  if views != 2 or crops:
    raise ValueError(
      f'Barlow Twins compares 2 views, not {views} (augment.blur) and {crops} '
      'local crops'
    )
  encoder = resnet.make_encoder(config.encoder, run.image_size)
  projector = heads.MLP(
    sizes=[c.projector_hidden_size] * (c.projector_layers - 1)
    + [c.projector_output_size],
    norm_group=encoder.norm_group,
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
    value, metrics = barlow_twins_and_terms(
      *embeddings, redundancy_weight=c.redundancy_weight, axis_name=axis_name
    )
    model_state = {'batch_stats': batch_stats}
    return c.loss_scale * value, (model_state, metrics, tuple(embeddings))

  return Objective(
    init=init,
    loss=loss,
    after_update=lambda params, model_state, step: model_state,
    chance=lambda batch_size: float(c.loss_scale * c.projector_output_size),
    features=functools.partial(branches.frozen_features, encoder),
    causes=CAUSES,
  )
