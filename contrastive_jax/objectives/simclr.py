"""SimCLR: two views of an image agree, against all other images of the batch.

Chen et al. 2020 (arXiv 2002.05709); version 2: Chen et al. 2020 (2006.10029).
Official code: google-research/simclr, tf2/. The variants 'dcl' and 'dclw' leave
the positive out of the denominator: Yeh et al. 2021 (2110.06848).
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.losses._dcl import dcl_and_statistics
from contrastive_jax.losses._nt_xent import nt_xent_and_statistics
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `variant`: 'nt_xent', 'dcl' or 'dclw', the last with weights of the
  positives by `dclw_sigma` (0.5); `temperature`; `projector_layers` (2:
  version 1; 3: version 2's default), `projector_hidden_size` (0: as wide as
  the encoder's output, the official choice), `projector_output_size`;
  `loss_reduction`: 'mean' over both directions (the paper) or their 'sum'
  (the official code: twice the loss and the gradient, which LARS does not
  notice and SGD sees as twice the learning rate).
  """

  variant: str = field('nt_xent', among=('nt_xent', 'dcl', 'dclw'))
  temperature: float = field(0.1, above=0)
  dclw_sigma: float = field(0.5, above=0)
  loss_reduction: str = field('sum', among=('mean', 'sum'))
  projector_layers: int = field(2, least=1)
  projector_hidden_size: int = field(0, least=0)
  projector_output_size: int = field(128, least=1)


CAUSES = {
  'at chance': (
    'views that share nothing (crops or jitter too strong), a learning rate '
    'too high or too low, a temperature far from 0.1 to 0.5'
  ),
  'partial collapse': (
    'too few negatives (a small batch), too high a temperature, views that one '
    'simple feature, such as the mean color, tells apart'
  ),
  'collapsed': (
    'negatives push all embeddings apart, so a numerical fault: learning rate '
    'or weight decay too high, or constant images'
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns SimCLR as `config.objective` has it.

  Local crops (`augment.local_crops`) are ours, after SwAV's: the loss is the
  mean over all pairs of a global view and another view, and without local
  crops that of the one pair there is. What is logged is of that pair.
  """
  check_views('SimCLR', run, 2, local_crops=True)
  decoupled = c.variant != 'nt_xent'
  loss_fn = nt_xent_and_statistics
  if decoupled:
    sigma = c.dclw_sigma if c.variant == 'dclw' else None
    loss_fn = functools.partial(dcl_and_statistics, weight_sigma=sigma)
  ceiling = math.log(2 * run.batch_size - 1)
  scale = 2.0 if c.loss_reduction == 'sum' else 1.0
  hidden_size = c.projector_hidden_size or encoder.features
  projector = heads.MLP(
    sizes=[hidden_size] * (c.projector_layers - 1) + [c.projector_output_size],
    hidden_norm='affine',
    output_norm='scale',
    norm_group=encoder.norm_group,
    kernel_init=jax.nn.initializers.normal(0.01),
    dtype=encoder.dtype,
  )

  modules = {'encoder': encoder.module, 'projector': projector}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    # One pass over both views: batch statistics over 2N images, as official.
    # Local crops have a pass of their own, being of another size.
    outputs, batch_stats = branches.run_branch(
      modules,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
      rng=keys.draw(rng, keys.Draw.DROPOUT),
    )
    first, second, *local = outputs['projector']
    pair_loss = functools.partial(
      loss_fn, temperature=c.temperature, axis_name=axis_name
    )
    value, metrics = pair_loss(first, second)
    if not decoupled:
      # InfoNCE: a lower bound in nats that cannot tell more than its ceiling.
      bound = jax.lax.stop_gradient(ceiling - value)
      metrics['mutual_information_bound'] = bound
      metrics['mutual_information_ceiling'] = jnp.asarray(ceiling)
    values = [value]
    for z in local:
      values += [pair_loss(z_global, z)[0] for z_global in (first, second)]
    value = sum(values[1:], values[0]) / len(values)
    model_state = {'batch_stats': batch_stats}
    return scale * value, (model_state, metrics, (first, second))

  def chance(batch_size):
    others = 2 * (batch_size - 1) if decoupled else 2 * batch_size - 1
    return scale * math.log(others)

  return Objective(
    modules=modules,
    init=branches.init_fn(modules),
    loss=loss,
    chance=chance,
    causes=CAUSES,
  )
