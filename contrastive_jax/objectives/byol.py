"""BYOL: a network predicts what a slowly following copy of it makes of a view.

Grill et al. 2020 (arXiv 2006.07733).
Official code: google-deepmind/deepmind-research, byol/.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from contrastive_jax import keys, schedules
from contrastive_jax.losses._cosine import normalized_squared_error
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field, share


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `tau`, the share of the target network that the first update keeps, which
  rises to 1 by half a cosine over the run; `target_init`, whether the
  target starts as 'different' random weights (the official code, whose
  authors saw no effect) or 'same' as the online network (most others);
  `stop_gradient`, False to watch the collapse: the online network's own
  projections are the targets, and take a gradient; `projector_hidden_size`,
  `projector_output_size`, `predictor_hidden_size`.
  """

  tau: float = share(0.996)
  target_init: str = field('different', among=('same', 'different'))
  stop_gradient: bool = field(True)
  projector_hidden_size: int = field(4096, least=1)
  projector_output_size: int = field(256, least=1)
  predictor_hidden_size: int = field(4096, least=1)


CAUSES = {
  'at chance': (
    'a learning rate too high or too low, views that share nothing (crops or '
    'jitter too strong)'
  ),
  'partial collapse': (
    'tau too low, learning rate or weight decay too high, too small a batch '
    'for the batch norms, an encoder too small for the data'
  ),
  'collapsed': (
    'stop_gradient is off, tau too low, a learning rate of LARS given to Adam, '
    'batch norm without global statistics'
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns BYOL as `config.objective` has it.

  The official code also trains a linear classifier on the encoder's output,
  whose gradient stops there. Here there is none: evaluation is a job of its
  own.

  Local crops (`augment.local_crops`) are ours: they go through the online
  network only, all of one pass, and predict both targets. The loss is twice
  the mean over pairs of a prediction and another view's target, which without
  local crops is the official sum of the two directions.
  """
  check_views('BYOL', run, 2, local_crops=True)
  # The official hidden layers have a bias too, which the norm behind them
  # takes away again: no effect, no gradient.
  head: Any = dict(norm_group=encoder.norm_group, dtype=encoder.dtype)
  projector = heads.MLP(
    sizes=[c.projector_hidden_size, c.projector_output_size], **head
  )
  predictor = heads.MLP(
    sizes=[c.predictor_hidden_size, c.projector_output_size], **head
  )
  target_modules = {'encoder': encoder.module, 'projector': projector}
  modules = {**target_modules, 'predictor': predictor}
  tau = schedules.half_cosine(c.tau, 1.0, run.total_steps)

  def init(rng, batch):
    images = batch['views'][0]
    online_rng, target_rng = jax.random.split(rng)
    params, batch_stats = branches.init_branch(online_rng, modules, images)
    model_state = {'batch_stats': batch_stats}
    if not c.stop_gradient:
      return params, model_state
    target, target_batch_stats = branches.init_branch(
      target_rng, target_modules, images
    )
    if c.target_init == 'same':
      target = {name: params[name] for name in target_modules}
    return params, {
      **model_state,
      'target': target,
      'target_batch_stats': target_batch_stats,
    }

  def loss(params, model_state, batch, *, rng, step, axis_name):
    run_branch = functools.partial(
      branches.run_branch, train=True, axis_name=axis_name
    )
    global_views, local_crops = batch['views'][:2], batch['views'][2:]
    batch_stats = model_state['batch_stats']
    projections, predictions, targets = [], [], []
    # A pass, and so batch statistics, of its own for each view, as official.
    for number, view in enumerate(global_views):
      outputs, batch_stats = run_branch(
        modules,
        params,
        batch_stats,
        (view,),
        rng=keys.draw(rng, keys.Draw.DROPOUT, number),
      )
      projections += outputs['projector']
      predictions += outputs['predictor']
    if local_crops:
      outputs, batch_stats = run_branch(
        modules,
        params,
        batch_stats,
        local_crops,
        rng=keys.draw(rng, keys.Draw.DROPOUT, len(global_views)),
      )
      predictions += outputs['predictor']
    model_state = {**model_state, 'batch_stats': batch_stats}
    if c.stop_gradient:
      # In training mode: the target's statistics are of its own passes, and
      # only its parameters follow the online network's.
      statistics = model_state['target_batch_stats']
      for number, view in enumerate(global_views):
        outputs, statistics = run_branch(
          target_modules,
          model_state['target'],
          statistics,
          (view,),
          rng=keys.draw(rng, keys.Draw.TARGET_DROPOUT, number),
        )
        targets += outputs['projector']
      model_state['target_batch_stats'] = statistics
    else:
      targets = projections
    pairs = [
      normalized_squared_error(prediction, target)
      for p, prediction in enumerate(predictions)
      for t, target in enumerate(targets)
      if p != t
    ]
    value = 2 * sum(pairs[1:], pairs[0]) / len(pairs)
    metrics = {'tau': jnp.asarray(tau(step))}
    return value, (model_state, metrics, tuple(projections))

  def after_update(params, model_state, step):
    if not c.stop_gradient:
      return model_state
    target = optax.incremental_update(
      {name: params[name] for name in target_modules},
      model_state['target'],
      1 - tau(step),
    )
    return {**model_state, 'target': target}

  return Objective(
    modules=modules,
    init=init,
    loss=loss,
    after_update=after_update,
    # Two terms of 2: directions that have nothing to do with each other.
    chance=lambda batch_size: 4.0,
    causes=CAUSES,
  )
