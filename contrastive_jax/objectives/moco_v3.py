"""MoCo v3: predictions agree with the target's keys, within the batch.

Chen, Xie and He 2021 (arXiv 2104.02057), with its ResNet.
Official code: facebookresearch/moco-v3.
"""

import functools
import math
from typing import Any

import jax
import optax

from contrastive_jax import schedules
from contrastive_jax.config import Config
from contrastive_jax.losses.info_nce import batch_info_nce
from contrastive_jax.models import branches, heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = (
  'temperature',
  'tau',
  'projector_hidden_size',
  'projector_output_size',
  'predictor_hidden_size',
)

CAUSES = {
  'at chance': (
    'a learning rate too high or too low, tau too low (the target changes '
    'faster than it can be predicted), views that share nothing'
  ),
  'partial collapse': (
    'too few negatives (a small batch), too high a temperature (1 goes with '
    'batch 4096), views that one simple feature tells apart'
  ),
  'collapsed': (
    'negatives push all embeddings apart, so a numerical fault: learning rate '
    'or weight decay too high, or constant images'
  ),
}


def make(config: Config, run: Run) -> Objective:
  """Returns MoCo v3 as `config.objective` has it.

  Args:
    config: `objective.temperature`; `tau`, the share of the target network that
      the first step keeps, which rises to 1 by half a cosine over the run;
      `projector_hidden_size`, `projector_output_size`, `predictor_hidden_size`.
    run: sizes.

  Returns:
    The objective.

  Raises:
    ValueError: the config's values make no sense.
  """
  c = config.objective
  if c.temperature <= 0:
    raise ValueError(f'objective.temperature is {c.temperature}, not positive')
  if not 0 <= c.tau <= 1:
    raise ValueError(f'objective.tau is {c.tau}, not in [0, 1]')
  views, crops = len(config.augment.blur), config.augment.local_crops
  if views != 2 or crops:
    raise ValueError(
      f'MoCo v3 compares 2 views, not {views} (augment.blur) and {crops} local '
      'crops'
    )
  encoder = resnet.make_encoder(config.encoder, run.image_size)
  head: Any = dict(norm_group=encoder.norm_group, dtype=encoder.dtype)
  projector = heads.MLP(
    sizes=[c.projector_hidden_size, c.projector_output_size],
    output_norm='plain',
    **head,
  )
  # With the official ResNet's predictor; the one for ViT ends in a norm too.
  predictor = heads.MLP(
    sizes=[c.predictor_hidden_size, c.projector_output_size], **head
  )
  target_modules = {'encoder': encoder, 'projector': projector}
  modules = {**target_modules, 'predictor': predictor}
  tau = schedules.half_cosine(c.tau, 1.0, run.total_steps)

  def init(rng, batch):
    params, batch_stats = branches.init_branch(rng, modules, batch['views'][0])
    return params, {
      'batch_stats': batch_stats,
      'target': {name: params[name] for name in target_modules},
      'target_batch_stats': {
        name: batch_stats[name] for name in target_modules
      },
    }

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del rng, step
    batch_stats = model_state['batch_stats']
    target_batch_stats = model_state['target_batch_stats']
    embeddings, queries, keys = [], [], []
    # A pass, and so batch statistics, of its own for each view, as official.
    for view in batch['views']:
      outputs, batch_stats = branches.run_branch(
        modules, params, batch_stats, (view,), train=True, axis_name=axis_name
      )
      embeddings += outputs['projector']
      queries += outputs['predictor']
      outputs, target_batch_stats = branches.run_branch(
        target_modules,
        model_state['target'],
        target_batch_stats,
        (view,),
        train=True,
        axis_name=axis_name,
      )
      keys += jax.lax.stop_gradient(outputs['projector'])
    values, metrics = zip(
      *(
        batch_info_nce(q, k, temperature=c.temperature, axis_name=axis_name)
        for q, k in zip(queries, keys[::-1], strict=True)
      ),
      strict=True,
    )
    model_state = {
      **model_state,
      'batch_stats': batch_stats,
      'target_batch_stats': target_batch_stats,
    }
    metrics = jax.tree.map(lambda *x: sum(x) / len(x), *metrics)
    # 2T keeps the size of the gradient when the temperature changes.
    value = 2 * c.temperature * (values[0] + values[1])
    return value, (model_state, metrics, tuple(embeddings))

  def after_update(params, model_state, step):
    # The official forward pass first moves the target towards the network as
    # the update before left it: what opens step s + 1 there ends step s here.
    target = optax.incremental_update(
      {name: params[name] for name in target_modules},
      model_state['target'],
      1 - tau(step + 1),
    )
    return {**model_state, 'target': target}

  return Objective(
    init=init,
    loss=loss,
    after_update=after_update,
    chance=lambda batch_size: 4 * c.temperature * math.log(batch_size),
    features=functools.partial(branches.frozen_features, encoder),
    causes=CAUSES,
  )
