"""VICReg: views alike, in dimensions that vary and do not correlate.

Bardes, Ponce and LeCun 2021 (arXiv 2105.04906).
Official code: facebookresearch/vicreg.
"""

import dataclasses

import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.losses._vicreg import chance_value, vicreg_and_terms
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `similarity_weight`, `variance_weight` and `covariance_weight` (25, 25 and
  1; 0 drops a term); `variance_form`, 'code' (each view's term is halved,
  the official code) or 'paper' (not halved; solo-learn);
  `projector_layers`, `projector_hidden_size`, `projector_output_size`.
  """

  similarity_weight: float = field(25.0, least=0)
  variance_weight: float = field(25.0, least=0)
  covariance_weight: float = field(1.0, least=0)
  variance_form: str = field('code', among=('code', 'paper'))
  projector_layers: int = field(3, least=1)
  projector_hidden_size: int = field(8192, least=1)
  projector_output_size: int = field(8192, least=1)


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


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns VICReg as `config.objective` has it.

  Its chance value is the loss of an encoder that has collapsed to a point.
  """
  check_views('VICReg', run, 2)
  chance = chance_value(
    variance_weight=c.variance_weight, variance_form=c.variance_form
  )
  # The official hidden layers have a bias too, which the norm behind them
  # takes away again: no effect, no gradient.
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
    value, metrics = vicreg_and_terms(
      *embeddings,
      similarity_weight=c.similarity_weight,
      variance_weight=c.variance_weight,
      covariance_weight=c.covariance_weight,
      variance_form=c.variance_form,
      axis_name=axis_name,
    )
    # Embeddings that shrink toward a point keep their directions for long.
    metrics['collapse_gauge'] = jnp.minimum(1.0, metrics.pop('mean_std'))
    model_state = {'batch_stats': batch_stats}
    return value, (model_state, metrics, tuple(embeddings))

  return Objective(
    modules=modules,
    init=branches.init_fn(modules),
    loss=loss,
    chance=lambda batch_size: chance,
    causes=CAUSES,
  )
