"""SwAV: one crop of an image predicts the prototypes that another is given.

Caron et al. 2020 (arXiv 2006.09882).
Official code: facebookresearch/swav.
"""

import functools
import math
from typing import Any

import jax.numpy as jnp

from contrastive_jax.config import Config
from contrastive_jax.losses import queue as queue_lib
from contrastive_jax.losses.gather import all_rows_alike
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.losses.swav import assignment_statistics, swav
from contrastive_jax.models import branches, heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = (
  'temperature',
  'num_prototypes',
  'sinkhorn_epsilon',
  'sinkhorn_iterations',
  'queue_size',
  'queue_start_epoch',
  'projector_hidden_size',
  'projector_output_size',
)

CAUSES = {
  'at chance': (
    'prototypes that move too early (freeze them for longer), sinkhorn_epsilon '
    'too large (try 0.03), a learning rate too high, a queue too early'
  ),
  'partial collapse': (
    'too few prototypes, or too few samples for them (turn on a queue), crops '
    'that one simple feature tells apart'
  ),
  'collapsed': (
    'codes that are not equal in shares (sinkhorn_iterations too few), or '
    'embeddings all alike: learning rate too high, prototypes not frozen'
  ),
}


def make(config: Config, run: Run) -> Objective:
  """Returns SwAV as `config.objective` has it.

  Args:
    config: `objective.temperature`; `num_prototypes`; `sinkhorn_epsilon` and
      `sinkhorn_iterations` (0: codes without equal shares, which collapse);
      `queue_size`, embeddings of earlier samples that take part in the codes of
      a small batch, for each of the two global crops (0: none), from
      `queue_start_epoch` on, as soon as that many have been gathered since;
      `projector_hidden_size`, `projector_output_size`. The prototypes' freeze
      is the optimizer's: optimizer.frozen=('prototypes',).
    run: sizes.

  Returns:
    The objective.

  Raises:
    ValueError: the config's values make no sense.
  """
  c = config.objective
  for name in ('temperature', 'sinkhorn_epsilon'):
    if c[name] <= 0:
      raise ValueError(f'objective.{name} is {c[name]}, not positive')
  for name in ('sinkhorn_iterations', 'queue_size', 'queue_start_epoch'):
    if c[name] < 0:
      raise ValueError(f'objective.{name} is {c[name]}, below 0')
  if c.num_prototypes < 2:
    raise ValueError(
      f'objective.num_prototypes is {c.num_prototypes}: it takes 2 to differ'
    )
  if len(config.augment.blur) != 2:
    raise ValueError(
      f'SwAV assigns 2 global crops, augment.blur has '
      f'{len(config.augment.blur)}'
    )
  if c.queue_size:
    queue_lib.check_size(c.queue_size, run.batch_size)
  # Official: it begins to fill at an epoch, and is used once it is full.
  first_use = round(c.queue_start_epoch * run.steps_per_epoch)
  first_use += c.queue_size // run.batch_size
  encoder = resnet.make_encoder(config.encoder, run.image_size)
  projector = heads.MLP(
    # The official hidden layer has a bias, which the norm after it takes away.
    sizes=[c.projector_hidden_size, c.projector_output_size],
    output_bias=True,
    norm_group=encoder.norm_group,
    dtype=encoder.dtype,
  )
  prototypes = heads.Prototypes(c.num_prototypes, gradient_through_norm=False)
  modules = {
    'encoder': encoder,
    'projector': projector,
    'prototypes': prototypes,
  }

  def init(rng, batch):
    params, batch_stats = branches.init_branch(rng, modules, batch['views'][0])
    model_state: dict[str, Any] = {'batch_stats': batch_stats}
    if c.queue_size:
      # A row for each image, of both its global crops.
      shape = (c.queue_size, 2, c.projector_output_size)
      model_state['queue'] = jnp.zeros(shape)
      model_state['queue_pointer'] = jnp.zeros((), jnp.int32)
    return params, model_state

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del rng
    # One pass of the encoder a resolution, one of the heads over all crops.
    outputs, batch_stats = branches.run_branch(
      modules,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
    )
    embeddings, scores = outputs['projector'][:2], outputs['prototypes']
    model_state = {**model_state, 'batch_stats': batch_stats}
    queue_scores: Any = None
    if c.queue_size:
      queue = model_state['queue']
      # Old embeddings, but the prototypes of now.
      queue_scores = [
        prototypes.apply({'params': params['prototypes']}, rows, train=True)
        for rows in (queue[:, 0], queue[:, 1])
      ]
      newest = jnp.stack([l2_normalize(z) for z in embeddings], axis=1)
      # The newest replace the oldest; a ring, as Sinkhorn knows no order.
      model_state['queue'], model_state['queue_pointer'] = queue_lib.enqueue(
        queue, model_state['queue_pointer'], all_rows_alike(newest, axis_name)
      )
    value = swav(
      scores,
      temperature=c.temperature,
      epsilon=c.sinkhorn_epsilon,
      iterations=c.sinkhorn_iterations,
      queue_scores=queue_scores,
      use_queue=step >= first_use,
      axis_name=axis_name,
    )
    # As sharp as the codes, but not made equal in shares.
    metrics = assignment_statistics(
      jnp.concatenate(scores[:2]) / c.sinkhorn_epsilon, axis_name=axis_name
    )
    return value, (model_state, metrics, embeddings)

  return Objective(
    init=init,
    loss=loss,
    after_update=lambda params, model_state, step: model_state,
    chance=lambda batch_size: math.log(c.num_prototypes),
    features=functools.partial(branches.frozen_features, encoder),
    causes=CAUSES,
  )
