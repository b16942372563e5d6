"""SimCLR: two views of an image agree, against all other images of the batch.

Chen et al. 2020 (arXiv 2002.05709); version 2: Chen et al. 2020 (2006.10029).
Official code: google-research/simclr, tf2/.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax.config import Config
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.losses.nt_xent import nt_xent_and_statistics
from contrastive_jax.models import heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = (
  'temperature',
  'loss_reduction',
  'projector_layers',
  'projector_hidden_size',
  'projector_output_size',
)


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

  def init(rng, batch):
    encoder_rng, projector_rng = jax.random.split(rng)
    images = batch['views'][0]
    encoder_variables = encoder.init(encoder_rng, images, train=False)
    features = encoder.apply(encoder_variables, images, train=False)
    projector_variables = projector.init(projector_rng, features, train=False)
    variables = {'encoder': encoder_variables, 'projector': projector_variables}
    params = {k: v['params'] for k, v in variables.items()}
    statistics = {k: v.get('batch_stats', {}) for k, v in variables.items()}
    return params, {'batch_stats': statistics}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del rng, step
    # One pass over both views: batch statistics over 2N images, as official.
    x = jnp.concatenate(batch['views'])
    num_views = len(batch['views'])
    statistics = {}
    for name, module in (('encoder', encoder), ('projector', projector)):
      x, updated = module.apply(
        {
          'params': params[name],
          'batch_stats': model_state['batch_stats'][name],
        },
        x,
        train=True,
        axis_name=axis_name,
        views=num_views,
        mutable=['batch_stats'],
      )
      statistics[name] = updated.get('batch_stats', {})
    z_a, z_b = jnp.split(x, num_views)
    value, metrics = nt_xent_and_statistics(
      z_a, z_b, temperature=c.temperature, axis_name=axis_name
    )
    # InfoNCE: a lower bound in nats that cannot tell more than its ceiling.
    metrics['mutual_information_bound'] = jax.lax.stop_gradient(ceiling - value)
    metrics['mutual_information_ceiling'] = jnp.asarray(ceiling)
    std = jnp.mean(
      _std_over_batch(l2_normalize(jax.lax.stop_gradient(x)), axis_name)
    )
    metrics['embedding_std'] = std
    # 1 for an even spread over the sphere, 0 for a single point.
    metrics['embedding_spread'] = std * math.sqrt(x.shape[-1])
    return scale * value, ({'batch_stats': statistics}, metrics)

  def features(params, model_state, images) -> Any:
    return encoder.apply(
      {
        'params': params['encoder'],
        'batch_stats': model_state['batch_stats']['encoder'],
      },
      images,
      train=False,
    )

  return Objective(
    init=init,
    loss=loss,
    after_update=lambda params, model_state, step: model_state,
    chance=lambda batch_size: scale * math.log(2 * batch_size - 1),
    features=features,
  )


def _std_over_batch(u: jax.Array, axis_name: str | None) -> jax.Array:
  """[b, d] to the standard deviation of each dimension over all replicas."""
  mean, square = jnp.mean(u, axis=0), jnp.mean(jnp.square(u), axis=0)
  if axis_name is not None:
    mean, square = jax.lax.pmean((mean, square), axis_name)
  return jnp.sqrt(jnp.maximum(square - jnp.square(mean), 0.0))
