"""SimCLR: two views of an image agree, against all other images of the batch.

Chen et al. 2020 (arXiv 2002.05709); version 2: Chen et al. 2020 (2006.10029).
Official code: google-research/simclr, tf2/.
"""

import math

import jax
import jax.numpy as jnp

from contrastive_jax.config import Config
from contrastive_jax.losses.nt_xent import nt_xent_and_statistics
from contrastive_jax.models import branches, heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = (
  'temperature',
  'loss_reduction',
  'projector_layers',
  'projector_hidden_size',
  'projector_output_size',
)


CAUSES = {
  'at chance': (
    'views that share nothing (crops or jitter too strong), a learning rate '
    'too high or too low, a temperature far from 0.1 to 0.5'
  ),
  'partial collapse': (
    'too few negatives (a small batch), too high a temperature, views that one '
    'simple feature, such as the mean colour, tells apart'
  ),
  'collapsed': (
    'negatives push all embeddings apart, so a numerical fault: learning rate '
    'or weight decay too high, or constant images'
  ),
}


def make(config: Config, run: Run) -> Objective:
  """Returns SimCLR as `config.objective` has it.

  Args:
    config: `objective.temperature`; `objective.projector_layers` (2: version 1;
      3: version 2's default), `projector_hidden_size` (0: as wide as the
      encoder's output, the official choice), `projector_output_size`;
      `loss_reduction`: 'mean' over both directions (the paper) or their 'sum'
      (the official code: twice the loss and the gradient, which LARS does not
      notice and SGD sees as twice the learning rate).
    run: sizes.

  Returns:
    The objective.

  Raises:
    ValueError: the config's values make no sense.
  """
  c = config.objective
  if c.loss_reduction not in ('mean', 'sum'):
    raise ValueError(
      f"objective.loss_reduction is 'mean' or 'sum', not {c.loss_reduction!r}"
    )
  if c.temperature <= 0:
    raise ValueError(f'objective.temperature is {c.temperature}, not positive')
  if c.projector_layers < 1:
    raise ValueError(f'objective.projector_layers is {c.projector_layers}')
  if len(config.augment.blur) != 2:
    raise ValueError(
      f'SimCLR compares 2 views, augment.blur has {len(config.augment.blur)}'
    )
  ceiling = math.log(2 * run.batch_size - 1)
  scale = 2.0 if c.loss_reduction == 'sum' else 1.0
  encoder = resnet.make_encoder(config.encoder, run.image_size)
  hidden_size = c.projector_hidden_size or encoder.features
  projector = heads.MLP(
    sizes=[hidden_size] * (c.projector_layers - 1) + [c.projector_output_size],
    hidden_norm='affine',
    output_norm='scale',
    norm_group=encoder.norm_group,
    kernel_init=jax.nn.initializers.normal(0.01),
    dtype=encoder.dtype,
  )

  modules = {'encoder': encoder, 'projector': projector}

  def init(rng, batch):
    params, batch_stats = branches.init_branch(rng, modules, batch['views'][0])
    return params, {'batch_stats': batch_stats}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del rng, step
    # One pass over both views: batch statistics over 2N images, as official.
    outputs, batch_stats = branches.run_branch(
      modules,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
    )
    embeddings = outputs['projector']
    value, metrics = nt_xent_and_statistics(
      *embeddings, temperature=c.temperature, axis_name=axis_name
    )
    # InfoNCE: a lower bound in nats that cannot tell more than its ceiling.
    metrics['mutual_information_bound'] = jax.lax.stop_gradient(ceiling - value)
    metrics['mutual_information_ceiling'] = jnp.asarray(ceiling)
    return scale * value, ({'batch_stats': batch_stats}, metrics, embeddings)

  def features(params, model_state, images):
    outputs, _ = branches.run_branch(
      {'encoder': encoder},
      params,
      model_state['batch_stats'],
      (images,),
      train=False,
    )
    return outputs['encoder'][0]

  return Objective(
    init=init,
    loss=loss,
    after_update=lambda params, model_state, step: model_state,
    chance=lambda batch_size: scale * math.log(2 * batch_size - 1),
    features=features,
    causes=CAUSES,
  )
