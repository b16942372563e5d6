"""DINOv2: the class token as in DINO, masked patches as in iBOT, and KoLeo.

Oquab et al. 2023 (arXiv 2304.07193); Zhou et al. 2021 (iBOT, arXiv 2111.07832).
Official code: facebookresearch/dinov2. For encoders with patches: ViT.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from contrastive_jax import keys, schedules
from contrastive_jax.config import Error
from contrastive_jax.losses._dino import update_center
from contrastive_jax.losses._ibot import ibot, update_patch_center
from contrastive_jax.losses._koleo import koleo
from contrastive_jax.losses._sinkhorn import sinkhorn
from contrastive_jax.losses._swav import assignment_statistics, cross_prediction
from contrastive_jax.models import branches, heads, masking
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field, share
from contrastive_jax.objectives.dino import teacher_temperature


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are those of the official code.

  `temperature`, `teacher_temperature`, `teacher_temperature_start`,
  `teacher_temperature_epochs`, `tau` and `tau_end` as of `dino`; `teacher`, how
  its outputs become targets: 'centering' (with `center_momentum`; 1: nothing
  centers, which collapses) or 'sinkhorn' (three iterations; ViT-L/14 and g);
  `masked_crops`, of how many of an image's two global crops patches are masked
  for the student (1; iBOT: 2; 0: none), `mask_ratio_least` and
  `mask_ratio_most`, the range of their share; `patch_weight` of iBOT's loss,
  `koleo_weight` of KoLeo's, `koleo_group`, in how many examples neighbors are
  looked for (0: the whole batch; official: each GPU's); `num_prototypes`;
  `separate_heads`, whether patches have a head of their own (ViT-L/14
  and g);
  `projector_layers` (3; the prototypes are a fourth), `projector_hidden_size`,
  `projector_output_size`.
  """

  temperature: float = field(0.1, above=0)
  teacher_temperature: float = field(0.07, above=0)
  teacher_temperature_start: float = field(0.04, above=0)
  teacher_temperature_epochs: int = field(30, least=0)
  tau: float = share(0.992)
  tau_end: float = share(1.0)
  teacher: str = field('centering', among=('centering', 'sinkhorn'))
  center_momentum: float = share(0.9)
  masked_crops: int = field(1, least=0, most=2)
  mask_ratio_least: float = share(0.1)
  mask_ratio_most: float = share(0.5)
  patch_weight: float = field(1.0, least=0)
  koleo_weight: float = field(0.1, least=0)
  koleo_group: int = field(0, least=0)
  num_prototypes: int = field(65_536, least=2)
  separate_heads: bool = field(False)
  projector_layers: int = field(3, least=1)
  projector_hidden_size: int = field(2048, least=1)
  projector_output_size: int = field(256, least=1)


CAUSES = {
  'at chance': (
    'a learning rate or a teacher temperature too high, a batch too small for '
    'the targets, or a last layer not frozen at first'
  ),
  'partial collapse': (
    'tau too high for a short run or too low for a small batch, too few '
    'prototypes, koleo_weight 0'
  ),
  'collapsed': (
    'no centering (center_momentum 1, or a batch too small for it), or a '
    "teacher temperature not below the student's"
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns DINOv2 as `config.objective` has it.

  Raises:
    ValueError: the encoder has no patches, or no patch would be masked.
  """
  check_views('DINOv2', run, 2, local_crops=True)
  if (grid := encoder.patches) is None:
    raise Error('DINOv2 masks patches: encoder.name has to be that of a ViT')
  if getattr(encoder.module, 'pool', 'token') != 'token':
    raise Error('DINOv2 has a loss of the class token: set encoder.pool=token')
  if c.koleo_group == 1:
    raise Error('objective.koleo_group is 1: nobody has a neighbor there')
  ratio = (c.mask_ratio_least, c.mask_ratio_most)
  # Of a masked crop: its masked patches, at most.
  most = int(c.mask_ratio_most * math.prod(grid))
  if c.masked_crops and not (ratio[0] <= ratio[1] and most):
    raise Error(
      f'objective.mask_ratio_least is {ratio[0]:g}, mask_ratio_most '
      f'{ratio[1]:g}: a range of shares, of which the largest is at least one '
      f'of the {math.prod(grid)} patches'
    )
  hidden = [c.projector_hidden_size] * (c.projector_layers - 1)
  head = heads.dino(
    [*hidden, c.projector_output_size],
    c.num_prototypes,
    learned_scale=True,
    norm_group=None,
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder.module, **head}
  patch_head = 'patch_' if c.separate_heads else ''

  def init(rng, batch):
    view = batch['views'][0]
    params, batch_stats = branches.init_branch(rng, modules, view)
    if jax.tree.leaves(batch_stats):
      raise Error('DINOv2 is for encoders without batch norm')
    if c.separate_heads:
      own, _ = branches.init_branch(jax.random.fold_in(rng, 1), modules, view)
      params |= {f'patch_{name}': own[name] for name in head}
    model_state = {'batch_stats': batch_stats, 'target': dict(params)}
    if c.teacher == 'centering':
      zeros = jnp.zeros((c.num_prototypes,))
      model_state |= {'center': zeros, 'patch_center': zeros}
    # Zero, as official, where it is a matrix, which is decayed.
    params['mask_token'] = jnp.zeros((1, encoder.features))
    return params, model_state

  def logits(params, prefix, x):
    """[..., features] to [..., prototypes]; no row depends on another."""
    y = x.reshape(-1, x.shape[-1])
    for name, module in head.items():
      y = module.apply({'params': params[prefix + name]}, y, train=True)
    return y.reshape(*x.shape[:-1], -1)

  def encode(params, batch_stats, views, **options):
    return branches.run_maps(
      encoder.module, params, batch_stats, views, **options
    )

  def loss(params, model_state, batch, *, rng, step, axis_name):
    views, batch_stats = batch['views'], model_state['batch_stats']
    (rows,) = batch['id'].shape
    if c.koleo_weight and c.koleo_group and rows % c.koleo_group:
      raise Error(
        f'objective.koleo_group is {c.koleo_group}: it has to divide the '
        f'{rows} images of a device'
      )
    mode = dict(train=True, axis_name=axis_name)
    dropout = keys.draw(rng, keys.Draw.DROPOUT)
    masks, crops = masking.of_crops(
      run.seed, batch, grid, ratio, masked_crops=c.masked_crops
    )
    (features, maps), _ = encode(
      params,
      batch_stats,
      views[:2],
      rng=jax.random.fold_in(dropout, 0),
      masked=jnp.concatenate(masks) if c.masked_crops else None,
      mask_token=params['mask_token'],
      **mode,
    )
    local = ()
    if views[2:]:
      (local, _), _ = encode(
        params,
        batch_stats,
        views[2:],
        rng=jax.random.fold_in(dropout, 1),
        **mode,
      )
    # No rng: the teacher drops nothing; and no masks: it sees all.
    target = model_state['target']
    (target_features, target_maps), _ = encode(
      target, batch_stats, views[:2], **mode
    )

    sharpness = teacher_temperature(c, step // run.steps_per_epoch)
    student = logits(params, '', jnp.stack([*features, *local]))
    teacher = logits(target, '', jnp.stack(target_features))
    targets = _targets(
      c, teacher, sharpness, model_state.get('center'), axis_name=axis_name
    )
    value = cross_prediction(list(student / c.temperature), list(targets))
    metrics = {'class_token_term': value}

    moved = {}
    if c.teacher == 'centering':
      moved['center'] = update_center(
        model_state['center'],
        list(teacher),
        momentum=c.center_momentum,
        axis_name=axis_name,
      )
    if c.masked_crops:
      (patches, target_patches), masked = masking.tokens_of(
        masks, crops, (maps, target_maps), most
      )
      teacher_patches = logits(target, patch_head, target_patches)
      term = ibot(
        logits(params, patch_head, patches),
        _targets(
          c,
          teacher_patches,
          sharpness,
          model_state.get('patch_center'),
          valid=masked,
          axis_name=axis_name,
        ),
        masked,
        temperature=c.temperature,
      )
      # Official: the mean over both crops, masked or not.
      term *= c.masked_crops / 2
      value += c.patch_weight * term
      metrics['patch_term'] = term
      metrics['masked_share'] = jnp.mean(jnp.stack(masks).astype(jnp.float32))
      if c.teacher == 'centering':
        moved['patch_center'] = update_patch_center(
          model_state['patch_center'],
          teacher_patches,
          masked,
          momentum=c.center_momentum,
          axis_name=axis_name,
        )
    uniform = 1.0
    if c.masked_crops:
      # Where no block found its place there is nothing to predict.
      some = jnp.any(masked, axis=1).astype(jnp.float32)
      uniform += c.patch_weight * c.masked_crops / 2 * jnp.mean(some)
    metrics['chance_loss'] = jnp.asarray(uniform * math.log(c.num_prototypes))
    if c.koleo_weight:
      first, second = (
        koleo(z, group=c.koleo_group, axis_name=axis_name) for z in features
      )
      term = first + second
      value += c.koleo_weight * term
      metrics['koleo_term'] = term
      # The features before the head, whatever the head makes of them.
      metrics['chance_loss'] += c.koleo_weight * term
    centered = teacher - model_state.get('center', 0)
    metrics |= assignment_statistics(
      centered.reshape(-1, c.num_prototypes) / sharpness, axis_name=axis_name
    )
    metrics = jax.lax.stop_gradient(metrics)
    return value, ({**model_state, **moved}, metrics, features)

  def after_update(params, model_state, step):
    tau = schedules.half_cosine(c.tau, c.tau_end, run.total_steps)(step)
    student = {name: params[name] for name in model_state['target']}
    target = optax.incremental_update(student, model_state['target'], 1 - tau)
    return {**model_state, 'target': target}

  patches_term = c.patch_weight * c.masked_crops / 2
  return Objective(
    modules=modules,
    init=init,
    loss=loss,
    after_update=after_update,
    # Of patches in each masked crop, and without KoLeo, which is some -0.3 of
    # random features: the reports have the batch's own.
    chance=lambda batch_size: (1 + patches_term) * math.log(c.num_prototypes),
    causes=CAUSES,
    # The teacher's, as official.
    evaluated=lambda params, model_state: (model_state['target'], model_state),
  )


def _targets(c, teacher, sharpness, center, *, valid=None, axis_name):
  """Distributions over prototypes, of logits [..., K]."""
  teacher = jax.lax.stop_gradient(teacher).astype(jnp.float32)
  if c.teacher == 'centering':
    return jax.nn.softmax((teacher - center) / sharpness)
  rows = teacher.reshape(-1, teacher.shape[-1])
  codes = sinkhorn(
    rows,
    epsilon=sharpness,
    valid=None if valid is None else valid.reshape(-1),
    axis_name=axis_name,
  )
  return codes.reshape(teacher.shape)
