"""SwAV: one crop of an image predicts the prototypes that another is given.

Caron et al. 2020 (arXiv 2006.09882).
Official code: facebookresearch/swav.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.losses import queue as queue_lib
from contrastive_jax.losses._swav import assignment_statistics, swav
from contrastive_jax.losses.gather import all_rows_replicated
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import (
  Objective,
  Run,
  check_views,
  field,
  queue_notes,
)


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `temperature`; `num_prototypes`; `sinkhorn_epsilon` and
  `sinkhorn_iterations` (0: codes without equal shares, which collapse);
  `queue_size`, embeddings of earlier samples that take part in the codes of
  a small batch, for each of the two global crops (0: none), from
  `queue_start_epoch` on, as soon as that many have been gathered since;
  `projector_hidden_size`, `projector_output_size`. The prototypes' freeze
  is the optimizer's: optimizer.frozen=('prototypes',).
  """

  temperature: float = field(0.1, above=0)
  num_prototypes: int = field(3000, least=2)
  sinkhorn_epsilon: float = field(0.05, above=0)
  sinkhorn_iterations: int = field(3, least=0)
  queue_size: int = field(0, least=0)
  queue_start_epoch: float = field(0.0, least=0)
  projector_hidden_size: int = field(2048, least=1)
  projector_output_size: int = field(128, least=1)


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


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns SwAV as `config.objective` has it."""
  check_views('SwAV', run, 2, local_crops=True)
  if c.queue_size:
    queue_lib.check_size(c.queue_size, run.batch_size)
  # Official: it begins to fill at an epoch, and is used once it is full.
  first_use = round(c.queue_start_epoch * run.steps_per_epoch)
  first_use += c.queue_size // run.batch_size
  projector = heads.MLP(
    # The official hidden layer has a bias, which the norm after it takes away.
    sizes=[c.projector_hidden_size, c.projector_output_size],
    output_bias=True,
    norm_group=encoder.norm_group,
    kernel_init=heads.torch_init,
    dtype=encoder.dtype,
  )
  prototypes = heads.Prototypes(c.num_prototypes, gradient_through_norm=False)
  modules = {
    'encoder': encoder.module,
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
    # One pass of the encoder a resolution, one of the heads over all crops.
    outputs, batch_stats = branches.run_branch(
      modules,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
      rng=keys.draw(rng, keys.Draw.DROPOUT),
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
        queue,
        model_state['queue_pointer'],
        all_rows_replicated(newest, axis_name),
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

  notes = ()
  if c.queue_size:
    notes = queue_notes(
      c.queue_size,
      run.batch_size,
      run,
      'its own past embeddings are among those that share codes with an image',
    )
    if first_use > run.total_steps:
      notes = (
        f'the queue is used from step {first_use:,} on, and the run has '
        f'{run.total_steps:,}',
      )
  return Objective(
    modules=modules,
    notes=notes,
    init=init,
    loss=loss,
    chance=lambda batch_size: math.log(c.num_prototypes),
    causes=CAUSES,
  )
