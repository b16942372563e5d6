"""SimSiam: a view predicts the other, whose side takes no gradient.

Chen and He 2020 (arXiv 2011.10566).
Official code: facebookresearch/simsiam.
"""

import dataclasses
from typing import Any

import jax

from contrastive_jax import keys
from contrastive_jax.losses._cosine import negative_cosine
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `stop_gradient`, False to watch the collapse; `projector_layers` (3; 2 on
  CIFAR), `projector_hidden_size`, `projector_output_size`,
  `predictor_hidden_size`.
  """

  stop_gradient: bool = field(True)
  projector_layers: int = field(3, least=1)
  projector_hidden_size: int = field(2048, least=1)
  projector_output_size: int = field(2048, least=1)
  predictor_hidden_size: int = field(512, least=1)


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


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns SimSiam as `config.objective` has it.

  The predictor's learning rate does not decay in the official recipe: that is
  `optimizer.constant_rate`.
  """
  check_views('SimSiam', run, 2)
  head: Any = dict(
    norm_group=encoder.norm_group,
    kernel_init=heads.torch_init,
    dtype=encoder.dtype,
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
  modules = {
    'encoder': encoder.module,
    'projector': projector,
    'predictor': predictor,
  }

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    batch_stats = model_state['batch_stats']
    projections, predictions = [], []
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
    modules=modules,
    init=branches.init_fn(modules),
    loss=loss,
    # Directions that have nothing to do with each other.
    chance=lambda batch_size: 0.0,
    causes=CAUSES,
  )
