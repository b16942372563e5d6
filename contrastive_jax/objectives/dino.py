"""DINO: the student predicts its own moving average, centred and sharpened.

Caron et al. 2021 (arXiv 2104.14294), with a ResNet.
Official code: facebookresearch/dino.
"""

import functools
import math

import jax
import jax.numpy as jnp
import optax

from contrastive_jax import schedules
from contrastive_jax.config import Config
from contrastive_jax.losses.dino import dino, update_centre
from contrastive_jax.losses.swav import assignment_statistics
from contrastive_jax.models import branches, heads, resnet
from contrastive_jax.objectives import Objective, Run

FIELDS = (
  'temperature',
  'teacher_temperature',
  'teacher_temperature_start',
  'teacher_temperature_epochs',
  'tau',
  'tau_end',
  'centre_momentum',
  'num_prototypes',
  'projector_layers',
  'projector_hidden_size',
  'projector_output_size',
  'projector_norm',
  'norm_last_layer',
)

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
    'no centring (centre_momentum 1, or a batch too small for it), or no '
    "sharpening (teacher temperature not below the student's)"
  ),
}


def make(config: Config, run: Run) -> Objective:
  """Returns DINO as `config.objective` has it.

  Args:
    config: `objective.temperature`, the student's; `teacher_temperature`, which
      the first `teacher_temperature_epochs` epochs approach in equal steps from
      `teacher_temperature_start` (0 epochs: it is there at once); `tau`, the
      share of the teacher that the first step keeps, which goes to `tau_end` (1
      in the paper) by half a cosine over the run; `centre_momentum` (1: no
      centring, which collapses); `num_prototypes`, the paper's K;
      `projector_layers` (3; the prototypes are a fourth),
      `projector_hidden_size`, `projector_output_size`;
      `projector_norm`, whether batch norm follows its hidden layers (the
      official use_bn_in_head: False by default, True in the released ResNet);
      `norm_last_layer`, whether the prototypes keep length 1 (the official
      default; the paper's ViT-S trains the lengths). The last layer's freeze
      and the clipping are the optimizer's: frozen=('last_layer',),
      clip_tensor_norm.
    run: sizes.

  Returns:
    The objective.

  Raises:
    ValueError: the config's values make no sense.
  """
  c = config.objective
  for name in (
    'temperature',
    'teacher_temperature',
    'teacher_temperature_start',
  ):
    if c[name] <= 0:
      raise ValueError(f'objective.{name} is {c[name]}, not positive')
  for name in ('tau', 'tau_end', 'centre_momentum'):
    if not 0 <= c[name] <= 1:
      raise ValueError(f'objective.{name} is {c[name]}, not in [0, 1]')
  if c.num_prototypes < 2:
    raise ValueError(
      f'objective.num_prototypes is {c.num_prototypes}: it takes 2 to differ'
    )
  if c.projector_layers < 1:
    raise ValueError(f'objective.projector_layers is {c.projector_layers}')
  if len(config.augment.blur) != 2:
    raise ValueError(
      f"DINO's teacher sees 2 global views, augment.blur has "
      f'{len(config.augment.blur)}'
    )
  encoder = resnet.make_encoder(config.encoder, run.image_size)
  hidden_sizes = [c.projector_hidden_size] * (c.projector_layers - 1)
  modules = {
    'encoder': encoder,
    'projector': heads.MLP(
      sizes=[*hidden_sizes, c.projector_output_size],
      hidden_norm='affine' if c.projector_norm else 'none',
      # A norm would take the bias away, which the official layers have anyway.
      hidden_bias=not c.projector_norm,
      output_bias=True,
      norm_group=encoder.norm_group,
      # Official: truncated at 2, a hundred deviations away.
      kernel_init=jax.nn.initializers.normal(0.02),
      activation=functools.partial(jax.nn.gelu, approximate=False),
      dtype=encoder.dtype,
    ),
    'last_layer': heads.Prototypes(
      c.num_prototypes,
      learned_scale=not c.norm_last_layer,
      vectors_init=_torch_linear_init,
    ),
  }

  def init(rng, batch):
    params, batch_stats = branches.init_branch(rng, modules, batch['views'][0])
    return params, {
      'batch_stats': batch_stats,
      'target': params,
      'target_batch_stats': batch_stats,
      'centre': jnp.zeros((c.num_prototypes,)),
    }

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del rng
    # One pass of the encoder a resolution, one of the heads over all views.
    outputs, batch_stats = branches.run_branch(
      modules,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
    )
    target_outputs, target_batch_stats = branches.run_branch(
      modules,
      model_state['target'],
      model_state['target_batch_stats'],
      batch['views'][:2],
      train=True,
      axis_name=axis_name,
    )
    teacher, centre = target_outputs['last_layer'], model_state['centre']
    sharpness = teacher_temperature(c, step // run.steps_per_epoch)
    value = dino(
      outputs['last_layer'],
      teacher,
      centre,
      temperature=c.temperature,
      teacher_temperature=sharpness,
    )
    metrics = assignment_statistics(
      (jnp.concatenate(teacher) - centre) / sharpness, axis_name=axis_name
    )
    model_state = {
      **model_state,
      'batch_stats': batch_stats,
      'target_batch_stats': target_batch_stats,
      'centre': update_centre(
        centre, teacher, momentum=c.centre_momentum, axis_name=axis_name
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
    init=init,
    loss=loss,
    after_update=after_update,
    chance=lambda batch_size: math.log(c.num_prototypes),
    features=functools.partial(branches.frozen_features, encoder),
    causes=CAUSES,
    evaluated=evaluated,
  )


def teacher_temperature(config: Config, epoch: jax.Array) -> jax.Array:
  """Returns the teacher's temperature, which changes once an epoch.

  Args:
    config: the config's `objective`; of its n teacher_temperature_epochs the
      first has the start's and the last the end's, in equal steps.
    epoch: from 0.

  Returns:
    float32 scalar.

  Reference:
    dino main_dino.py, teacher_temp_schedule.
  """
  start, end = config.teacher_temperature_start, config.teacher_temperature
  last = config.teacher_temperature_epochs - 1
  progress = jnp.clip(epoch / max(last, 1), 0.0, 1.0) if last >= 0 else 1.0
  return jnp.float32(start + (end - start) * progress)


def _torch_linear_init(rng, shape, dtype=jnp.float32):
  """PyTorch's for a matrix [out, in]: their lengths come to about 0.58."""
  bound = 1 / math.sqrt(shape[-1])
  return jax.random.uniform(rng, shape, dtype, -bound, bound)
