"""DINO: the student predicts its own moving average, centered and sharpened.

Caron et al. 2021 (arXiv 2104.14294), with a ResNet.
Official code: facebookresearch/dino.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from contrastive_jax import keys, schedules
from contrastive_jax.losses._dino import dino, update_center
from contrastive_jax.losses._swav import assignment_statistics
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field, share


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `temperature`, the student's; `teacher_temperature`, which the first
  `teacher_temperature_epochs` epochs approach in equal steps from
  `teacher_temperature_start` (0 epochs: it is there at once); `tau`, the
  share of the teacher that the first step keeps, which goes to `tau_end` (1
  in the paper) by half a cosine over the run; `center_momentum` (1: no
  centering, which collapses); `num_prototypes`, the paper's K;
  `projector_layers` (3; the prototypes are a fourth),
  `projector_hidden_size`, `projector_output_size`; `projector_norm`,
  whether batch norm follows its hidden layers (the official use_bn_in_head:
  False by default, True in the released ResNet); `norm_last_layer`, whether
  the prototypes keep length 1 (the official default; the paper's ViT-S
  trains the lengths). The last layer's freeze and the clipping are the
  optimizer's: frozen=('last_layer',), clip_tensor_norm.
  """

  temperature: float = field(0.1, above=0)
  teacher_temperature: float = field(0.04, above=0)
  teacher_temperature_start: float = field(0.04, above=0)
  teacher_temperature_epochs: int = field(0, least=0)
  tau: float = share(0.996)
  tau_end: float = share(1.0)
  center_momentum: float = share(0.9)
  num_prototypes: int = field(65_536, least=2)
  projector_layers: int = field(3, least=1)
  projector_hidden_size: int = field(2048, least=1)
  projector_output_size: int = field(256, least=1)
  projector_norm: bool = field(False)
  norm_last_layer: bool = field(True)


CAUSES = {
  'at chance': (
    'a learning rate or a teacher temperature too high (below 0.07, and below '
    "the student's), tau too low for a small batch, last layer not frozen"
  ),
  'partial collapse': (
    'tau too high for a short run or too low for a small batch, too few '
    'prototypes, views that one simple feature tells apart'
  ),
  'collapsed': (
    'no centering (center_momentum 1, or a batch too small for it), or no '
    "sharpening (teacher temperature not below the student's)"
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns DINO as `config.objective` has it."""
  check_views('DINO', run, 2, local_crops=True)
  hidden_sizes = [c.projector_hidden_size] * (c.projector_layers - 1)
  modules = {
    'encoder': encoder.module,
    **heads.dino(
      [*hidden_sizes, c.projector_output_size],
      c.num_prototypes,
      learned_scale=not c.norm_last_layer,
      hidden_norm='affine' if c.projector_norm else 'none',
      norm_group=encoder.norm_group,
      dtype=encoder.dtype,
    ),
  }

  def init(rng, batch):
    params, batch_stats = branches.init_branch(rng, modules, batch['views'][0])
    return params, {
      'batch_stats': batch_stats,
      'target': params,
      'target_batch_stats': batch_stats,
      'center': jnp.zeros((c.num_prototypes,)),
    }

  def loss(params, model_state, batch, *, rng, step, axis_name):
    # One pass of the encoder a resolution, one of the heads over all views.
    outputs, batch_stats = branches.run_branch(
      modules,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
      rng=keys.draw(rng, keys.Draw.DROPOUT),
    )
    target_outputs, target_batch_stats = branches.run_branch(
      modules,
      model_state['target'],
      model_state['target_batch_stats'],
      batch['views'][:2],
      train=True,
      axis_name=axis_name,  # no rng: the teacher drops nothing, as official
    )
    teacher, center = target_outputs['last_layer'], model_state['center']
    sharpness = teacher_temperature(c, step // run.steps_per_epoch)
    value = dino(
      outputs['last_layer'],
      teacher,
      center,
      temperature=c.temperature,
      teacher_temperature=sharpness,
    )
    metrics = assignment_statistics(
      (jnp.concatenate(teacher) - center) / sharpness, axis_name=axis_name
    )
    model_state = {
      **model_state,
      'batch_stats': batch_stats,
      'target_batch_stats': target_batch_stats,
      'center': update_center(
        center, teacher, momentum=c.center_momentum, axis_name=axis_name
      ),
    }
    return value, (model_state, metrics, outputs['projector'][:2])

  def after_update(params, model_state, step):
    tau = schedules.half_cosine(c.tau, c.tau_end, run.total_steps)(step)
    target = optax.incremental_update(params, model_state['target'], 1 - tau)
    return {**model_state, 'target': target}

  def evaluated(params, model_state):
    del params
    # The teacher's, as official (eval_knn.py, eval_linear.py): it is the better
    # one throughout training (section 5.2).
    return (
      model_state['target'],
      {'batch_stats': model_state['target_batch_stats']},
    )

  return Objective(
    modules=modules,
    init=init,
    loss=loss,
    after_update=after_update,
    chance=lambda batch_size: math.log(c.num_prototypes),
    causes=CAUSES,
    evaluated=evaluated,
  )


def teacher_temperature(c: Any, epoch: jax.Array) -> jax.Array:
  """Returns the teacher's temperature, which changes once an epoch.

  Args:
    c: of its n teacher_temperature_epochs the
      first has the start's and the last the end's, in equal steps.
    epoch: from 0.

  Returns:
    float32 scalar.

  Reference:
    dino main_dino.py, teacher_temp_schedule.
  """
  start, end = c.teacher_temperature_start, c.teacher_temperature
  last = c.teacher_temperature_epochs - 1
  progress = jnp.clip(epoch / max(last, 1), 0.0, 1.0) if last >= 0 else 1.0
  return jnp.float32(start + (end - start) * progress)
