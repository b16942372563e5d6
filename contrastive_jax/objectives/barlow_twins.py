"""Barlow Twins: each dimension agrees over the views, and with no other.

Zbontar et al. 2021 (arXiv 2103.03230).
Official code: facebookresearch/barlowtwins.
"""

import dataclasses

from contrastive_jax import keys
from contrastive_jax.losses._barlow_twins import barlow_twins_and_terms
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `redundancy_weight`, lambda; `loss_scale`, a factor on the loss (1: the
  paper; solo-learn 0.1), which LARS does not notice in the weights;
  `projector_layers`, `projector_hidden_size`, `projector_output_size`.
  """

  redundancy_weight: float = field(0.0051, least=0)
  loss_scale: float = field(1.0, above=0)
  projector_layers: int = field(3, least=1)
  projector_hidden_size: int = field(8192, least=1)
  projector_output_size: int = field(8192, least=1)


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


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns Barlow Twins as `config.objective` has it.

  The gradient is the true one of the global batch's loss. The official code's
  is 1/R of it on R GPUs, which LARS hides in the weights and not in the biases
  and norms: their rate is `optimizer.bias_and_norm_rate`.

  Its chance value is the projector's output size, times loss_scale: of
  constant embeddings exactly, of views that have nothing to do with each
  other nearly. Random weights start above it, for many of their dimensions
  tell the same.
  """
  check_views('Barlow Twins', run, 2)
  projector = heads.MLP(
    sizes=[c.projector_hidden_size] * (c.projector_layers - 1)
    + [c.projector_output_size],
    norm_group=encoder.norm_group,
    kernel_init=heads.torch_init,
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder.module, 'projector': projector}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    batch_stats = model_state['batch_stats']
    embeddings = []
    # A pass, and so batch statistics, of its own for each view, as official.
    for number, view in enumerate(batch['views']):
      outputs, batch_stats = branches.run_branch(
        modules,
        params,
        batch_stats,
        (view,),
        train=True,
        axis_name=axis_name,
        rng=keys.draw(rng, keys.Draw.DROPOUT, number),
      )
      embeddings += outputs['projector']
    value, metrics = barlow_twins_and_terms(
      *embeddings, redundancy_weight=c.redundancy_weight, axis_name=axis_name
    )
    model_state = {'batch_stats': batch_stats}
    return c.loss_scale * value, (model_state, metrics, tuple(embeddings))

  return Objective(
    modules=modules,
    init=branches.init_fn(modules),
    loss=loss,
    chance=lambda batch_size: float(c.loss_scale * c.projector_output_size),
    causes=CAUSES,
  )
