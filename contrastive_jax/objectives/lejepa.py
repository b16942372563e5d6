"""LeJEPA: views alike, in embeddings that are a standard Gaussian.

Balestriero and LeCun 2025 (arXiv 2511.08544). No target network, no stop of
gradients, no queue. There is no official training code beyond an example.
"""

import dataclasses

import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.losses._lejepa import (
  COLLAPSED,
  directions,
  lejepa_and_terms,
)
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field, share


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  Any number of global views (of a ResNet all are, says the paper: no local
  crops).
  `sigreg_weight`, the paper's lambda (0.01 to 0.1; 0: nothing keeps the
  embeddings apart); `slices`, directions a step; `flattened`, whether all views
  are one sample (stable-pretraining) instead of one each (the paper);
  `projector_layers`, `projector_hidden_size`, `projector_output_size`.
  """

  sigreg_weight: float = share(0.05)
  slices: int = field(1024, least=1)
  flattened: bool = field(False)
  projector_layers: int = field(3, least=1)
  projector_hidden_size: int = field(2048, least=1)
  projector_output_size: int = field(512, least=1)


CAUSES = {
  'at chance': (
    'embeddings are near zero, where SIGReg has no gradient: sigreg_weight too '
    'small, learning rate too low, or weight decay too high'
  ),
  'partial collapse': (
    'sigreg_weight too small, too few slices for the dimension, a batch too '
    'small for the test of each slice'
  ),
  'collapsed': (
    'sigreg_weight is 0 or too small beside the invariance, or constant images'
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns LeJEPA as `config.objective` has it.

  Its chance value is the loss of an encoder that has collapsed to zero.
  """
  check_views('LeJEPA', run, max(2, run.global_views), local_crops=True)
  # The last layer is linear: a norm there would make the variance 1 for it.
  projector = heads.MLP(
    sizes=[c.projector_hidden_size] * (c.projector_layers - 1)
    + [c.projector_output_size],
    norm_group=encoder.norm_group,
    kernel_init=heads.torch_init,
    output_bias=True,
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder.module, 'projector': projector}

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
    embeddings = outputs['projector']
    value, metrics = lejepa_and_terms(
      embeddings,
      directions(
        keys.draw(rng, keys.Draw.DIRECTIONS), c.slices, c.projector_output_size
      ),
      global_views=run.global_views,
      weight=c.sigreg_weight,
      flattened=c.flattened,
      axis_name=axis_name,
    )
    metrics['collapse_gauge'] = jnp.minimum(1.0, metrics.pop('mean_std'))
    model_state = {'batch_stats': batch_stats}
    return value, (model_state, metrics, tuple(embeddings[: run.global_views]))

  views = run.global_views + run.local_crops if c.flattened else 1
  return Objective(
    modules=modules,
    init=branches.init_fn(modules),
    loss=loss,
    chance=lambda batch_size: c.sigreg_weight * COLLAPSED * views * batch_size,
    causes=CAUSES,
  )
