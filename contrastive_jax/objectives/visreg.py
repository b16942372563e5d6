"""VISReg: views alike, in a standard Gaussian by scale, shape and center.

Wu, Balestriero and Levine 2026 (arXiv 2606.02572). Official code:
HaiyuWu/visreg (CC BY-NC); the form of the loss is lightly's.
"""

import dataclasses

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.losses._lejepa import directions
from contrastive_jax.losses._visreg import collapsed, visreg_and_terms
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field, share


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  Any number of global views; their mean is what all views are drawn to.
  `regularizer_weight`, lambda (0.9; 0.6 for little data; 0: nothing keeps the
  embeddings apart); `scale_weight`, `shape_weight`, `center_weight`, of its
  terms; `slices`, directions a step, the same on every device (the official
  code draws each device's own); `gathered`, whether scale, shape and center are
  those of the whole batch (official), so that any number of devices is one, or
  of each device's images, where none waits for another (lightly's default);
  `projector_layers`, `projector_hidden_size`, `projector_output_size`;
  `projector_gelu`, whether GELU follows its norms (official), not ReLU.
  """

  regularizer_weight: float = share(0.9)
  scale_weight: float = field(1.0, least=0)
  shape_weight: float = field(1.0, least=0)
  center_weight: float = field(1.0, least=0)
  slices: int = field(4096, least=1)
  gathered: bool = field(True)
  projector_layers: int = field(3, least=1)
  projector_hidden_size: int = field(2048, least=1)
  projector_output_size: int = field(256, least=1)
  projector_gelu: bool = field(True)


CAUSES = {
  'at chance': (
    'embeddings have not left a point: learning rate too low or too high, or '
    'weight decay too high'
  ),
  'partial collapse': (
    'shape_weight too small beside the invariance, too few slices for the '
    'dimension, or a small batch'
  ),
  'collapsed': (
    'regularizer_weight is 0 or too small, learning rate or weight decay too '
    'high, or constant images'
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns VISReg as `config.objective` has it.

  Its chance value is the loss of an encoder that has collapsed to zero.
  """
  check_views('VISReg', run, max(2, run.global_views), local_crops=True)
  # The last layer is linear: a norm there would make the scale 1 for it.
  projector = heads.MLP(
    sizes=[c.projector_hidden_size] * (c.projector_layers - 1)
    + [c.projector_output_size],
    norm_group=encoder.norm_group,
    kernel_init=heads.torch_init,
    output_bias=True,
    activation=heads.gelu if c.projector_gelu else jax.nn.relu,
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
    value, metrics = visreg_and_terms(
      embeddings,
      directions(
        keys.draw(rng, keys.Draw.DIRECTIONS), c.slices, c.projector_output_size
      ),
      global_views=run.global_views,
      weight=c.regularizer_weight,
      scale_weight=c.scale_weight,
      shape_weight=c.shape_weight,
      center_weight=c.center_weight,
      axis_name=axis_name if c.gathered else None,
    )
    metrics['collapse_gauge'] = jnp.minimum(1.0, metrics.pop('mean_std'))
    if not c.gathered:  # by the quantiles of a device's images
      metrics['chance_loss'] = jnp.float32(chance(len(embeddings[0])))
    model_state = {'batch_stats': batch_stats}
    return value, (model_state, metrics, tuple(embeddings[: run.global_views]))

  def chance(batch_size):
    scale = c.scale_weight + c.shape_weight * (collapsed(batch_size) - 1)
    return c.regularizer_weight * scale

  return Objective(
    modules=modules,
    init=branches.init_fn(modules),
    loss=loss,
    chance=chance,
    causes=CAUSES,
  )
