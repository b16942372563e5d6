"""MoCo v3: predictions agree with the target's keys, within the batch.

Chen, Xie and He 2021 (arXiv 2104.02057).
Official code: facebookresearch/moco-v3.
"""

import dataclasses
import math
from typing import Any

import jax
import optax

from contrastive_jax import keys, schedules
from contrastive_jax.losses._info_nce import batch_info_nce
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field, share


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `temperature`; `tau`, the share of the target network that the first step
  keeps, which rises to 1 by half a cosine over the run;
  `projector_layers`, `projector_hidden_size`, `projector_output_size`,
  `predictor_hidden_size`; `predictor_norm`, whether the predictor ends in a
  norm, as the projector does. With a ViT the official code has 3 layers and the
  norm.
  """

  temperature: float = field(1.0, above=0)
  tau: float = share(0.99)
  projector_layers: int = field(2, least=1)
  projector_hidden_size: int = field(4096, least=1)
  projector_output_size: int = field(256, least=1)
  predictor_hidden_size: int = field(4096, least=1)
  predictor_norm: bool = field(False)


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


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns MoCo v3 as `config.objective` has it."""
  check_views('MoCo v3', run, 2)
  head: Any = dict(
    norm_group=encoder.norm_group,
    kernel_init=heads.torch_init,
    dtype=encoder.dtype,
  )
  hidden_sizes = [c.projector_hidden_size] * (c.projector_layers - 1)
  projector = heads.MLP(
    sizes=[*hidden_sizes, c.projector_output_size], output_norm='plain', **head
  )
  predictor = heads.MLP(
    sizes=[c.predictor_hidden_size, c.projector_output_size],
    output_norm='plain' if c.predictor_norm else 'none',
    **head,
  )
  target_modules = {'encoder': encoder.module, 'projector': projector}
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
    del step
    batch_stats = model_state['batch_stats']
    target_batch_stats = model_state['target_batch_stats']
    embeddings, queries, targets = [], [], []
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
      queries += outputs['predictor']
      outputs, target_batch_stats = branches.run_branch(
        target_modules,
        model_state['target'],
        target_batch_stats,
        (view,),
        train=True,
        axis_name=axis_name,
        rng=keys.draw(rng, keys.Draw.TARGET_DROPOUT, number),
      )
      targets += jax.lax.stop_gradient(outputs['projector'])
    values, metrics = zip(
      *(
        batch_info_nce(q, k, temperature=c.temperature, axis_name=axis_name)
        for q, k in zip(queries, targets[::-1], strict=True)
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
    # The official forward pass first moves the target toward the network as
    # the update before left it: what opens step s + 1 there ends step s here.
    target = optax.incremental_update(
      {name: params[name] for name in target_modules},
      model_state['target'],
      1 - tau(step + 1),
    )
    return {**model_state, 'target': target}

  return Objective(
    modules=modules,
    init=init,
    loss=loss,
    after_update=after_update,
    chance=lambda batch_size: 4 * c.temperature * math.log(batch_size),
    causes=CAUSES,
  )
