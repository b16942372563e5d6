"""Optimizers, and which parameters each part of them touches."""

import fnmatch
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from contrastive_jax import schedules
from contrastive_jax.config import Config, Error
from contrastive_jax.training import layer_rates


def make_optimizer(
  config: Config,
  learning_rate: optax.Schedule,
  *,
  peak: float,
  total_steps: int,
  steps_per_epoch: int,
) -> optax.GradientTransformation:
  """Returns the optimizer of the config's `optimizer`.

  Args:
    config: `name` lars, larc, sgd or adamw, and the fields of
      contrastive_jax.config. LARS in two orders:
      learning_rate_inside_momentum=True accumulates learning rate times
      gradient (SimCLR's official code), False multiplies the accumulated
      gradient by the learning rate (BYOL, MoCo v3, Barlow Twins, VICReg). They
      differ while the rate changes.
    learning_rate: step -> rate.
    peak: the rate that the entries of `constant_rate` keep.
    total_steps: over which the weight decay goes to weight_decay_end.
    steps_per_epoch: the unit of frozen_epochs.

  Returns:
    An optax transformation. Weight decay and, for LARS, the trust ratio leave
    out biases and normalization (parameters of one dimension or none) unless
    decay_bias_and_norm; LARC leaves out nothing.

  Raises:
    ValueError: unknown name, or weight_decay_end with LARC. Its `init` raises
      it if `constant_rate` or `frozen` name what is not in the parameters.

  Reference:
    LARS: You et al. 2017 (arXiv 1708.03888); simclr tf2/lars_optimizer.py; byol
    utils/optimizers.py. The ratio is trust_coefficient x |w| / |g + decay w|,
    and 1 where either norm is 0. LARC: apex apex/parallel/LARC.py, clip=False,
    as in swav main_swav.py. Frozen entries: swav main_swav.py (prototypes) and
    dino utils.py, cancel_gradients_last_layer. Clipping: dino utils.py,
    clip_gradients. Weight decay: dino main_dino.py. Constant rate: simsiam
    main_simsiam.py, --fix-pred-lr. Two rates: barlowtwins main.py.
  """
  weight_decay = config.weight_decay
  if config.weight_decay_end is not None:
    if config.name == 'larc':
      raise Error(
        'optimizer.weight_decay_end is for lars, sgd and adamw, not for larc'
      )
    weight_decay = schedules.half_cosine(
      config.weight_decay, config.weight_decay_end, total_steps
    )
  rest = _update_rule(config, learning_rate, weight_decay, peak)
  if config.frozen:
    rest = _with_frozen(
      config, rest, learning_rate, weight_decay, peak, steps_per_epoch
    )
  if config.clip_norm:
    clip = optax.clip_by_global_norm(config.clip_norm)
    if config.frozen:  # what stands still counts nothing in the norm
      identity = optax.identity()
      moving = _after(identity, frozen_steps(config, steps_per_epoch))
      clip = optax.chain(
        optax.partition(
          {'frozen': moving, 'rest': identity}, _labels(config, 'frozen')
        ),
        clip,
      )
    return optax.chain(clip, rest)
  return rest


def _after(
  transformation: optax.GradientTransformation, steps: int
) -> optax.GradientTransformation:
  """The transformation, and zeros in the first so many steps."""
  return optax.conditionally_mask(
    transformation, lambda step, **_: jnp.greater_equal(step, steps)
  )


def _with_frozen(
  config, rest, learning_rate, weight_decay, peak, steps_per_epoch
):
  """The optimizer `rest`, but for what the config freezes at first."""
  thaw = frozen_steps(config, steps_per_epoch)
  # While it is masked a transformation stands still: its momentum, and also
  # its count of the updates, at which it looks up rate and decay.
  late = _update_rule(
    config, _ahead(learning_rate, thaw), _ahead(weight_decay, thaw), peak
  )
  return optax.partition(
    {'frozen': _after(late, thaw), 'rest': rest}, _labels(config, 'frozen')
  )


def decayed(config: Config, params: Any) -> Any:
  """Returns, for each parameter, whether it is decayed (LARS: and adapted)."""
  everything = config.decay_bias_and_norm or config.name == 'larc'
  return jax.tree.map(lambda p: everything or p.ndim > 1, params)


def parameter_groups(
  config: Config, params: Any, *, steps_per_epoch: int
) -> str:
  """Returns a table of the groups of parameters that are treated alike.

  Args:
    config: the config's `optimizer`.
    params: arrays, or their shapes, under the names of the config.
    steps_per_epoch: the unit of frozen_epochs.

  Returns:
    Lines of text: the treatment, how many tensors and values, and an example.
  """
  thaw = frozen_steps(config, steps_per_epoch)
  groups = {}
  for (path, p), is_decayed, is_bias_or_norm, factor in zip(
    jax.tree.leaves_with_path(params),
    jax.tree.leaves(decayed(config, params)),
    jax.tree.leaves(_is_bias_or_norm(params)),
    jax.tree.leaves(layer_rates.factors(config, params)),
    strict=True,
  ):
    if config.name in ('lars', 'larc'):
      treatment = 'decayed and adapted' if is_decayed else 'neither'
    else:
      treatment = 'decayed' if is_decayed else 'not decayed'
    if matches(path, config.constant_rate):
      treatment += ', constant rate'
    if is_bias_or_norm and config.bias_and_norm_rate != 1:
      factor *= config.bias_and_norm_rate
    if factor != 1:
      treatment += f', rate x {factor:.3g}'
    if matches(path, config.frozen) and thaw:
      treatment += f', frozen until step {thaw:,}'
    groups.setdefault(treatment, []).append((path, p))

  title = f'optimizer {config.name}, weight decay {config.weight_decay:g}'
  if config.weight_decay_end is not None:
    title += f' to {config.weight_decay_end:g} (half cosine)'
  if config.clip_tensor_norm:
    title += f', gradient norm of a tensor at most {config.clip_tensor_norm:g}'
  if config.clip_norm:
    title += f', gradient norm of all at most {config.clip_norm:g}'
  width = max(20, *map(len, groups))
  lines = [
    title,
    f'{"parameters":<{width}} {"tensors":>8} {"values":>12}  for example',
  ]
  for treatment, group in groups.items():
    example = jax.tree_util.keystr(group[0][0], simple=True, separator='/')
    size = sum(p.size for _, p in group)
    lines.append(f'{treatment:<{width}} {len(group):>8} {size:>12,}  {example}')
  return '\n'.join(lines)


def _update_rule(
  config: Config,
  learning_rate: optax.Schedule,
  weight_decay: optax.ScalarOrSchedule,
  peak: float,
) -> optax.GradientTransformation:
  """The optimizer without what is frozen."""
  mask = functools.partial(decayed, config)
  decay = optax.add_decayed_weights(weight_decay, mask)
  momentum = optax.trace(config.momentum, config.nesterov)
  clip = []
  if config.clip_tensor_norm:
    clip = [_clip_tensors(config.clip_tensor_norm)]

  rate = optax.scale_by_learning_rate(learning_rate)
  if config.constant_rate:
    constant = optax.scale_by_learning_rate(peak)
    rate = optax.partition(
      {'constant_rate': constant, 'rest': rate},
      _labels(config, 'constant_rate'),
    )
  if config.bias_and_norm_rate != 1:
    factor = optax.scale(config.bias_and_norm_rate)
    rate = optax.chain(rate, optax.masked(factor, _is_bias_or_norm))
  if layer_rates.differ(config):
    rate = optax.chain(rate, layer_rates.scale(config))

  if config.name == 'adamw':
    return optax.chain(
      *clip, optax.scale_by_adam(b2=config.adam_b2), decay, rate
    )
  if config.name == 'sgd':
    return optax.chain(*clip, decay, momentum, rate)
  if config.name == 'larc':
    return optax.chain(*clip, _larc(config), momentum, rate)
  if config.name == 'lars':
    adapt = optax.masked(
      optax.scale_by_trust_ratio(trust_coefficient=config.trust_coefficient),
      mask,
    )
    if config.learning_rate_inside_momentum:
      return optax.chain(*clip, decay, adapt, rate, momentum)
    return optax.chain(*clip, decay, adapt, momentum, rate)
  raise Error(
    f"optimizer.name is 'lars', 'larc', 'sgd' or 'adamw', not {config.name!r}"
  )


def _larc(config: Config) -> optax.GradientTransformation:
  """Apex's: the ratio is of the gradient without decay, and no norm may be 0.

  Here |g| + decay |w| stands where LARS has |g + decay w|.
  """

  def adapt(g, w):
    g_norm, w_norm = optax.tree.norm(g), optax.tree.norm(w)
    ratio = config.trust_coefficient * w_norm
    ratio /= g_norm + config.weight_decay * w_norm + 1e-8
    adapted = ratio * (g + config.weight_decay * w)
    return jnp.where((g_norm > 0) & (w_norm > 0), adapted, g)

  return optax.stateless_with_tree_map(adapt)


def _clip_tensors(largest: float) -> optax.GradientTransformation:
  """Each tensor by its own norm, not all by the global norm."""
  return optax.stateless_with_tree_map(
    lambda g, _: g * jnp.minimum(1, largest / (optax.tree.norm(g) + 1e-6))
  )


def _is_bias_or_norm(params: Any) -> Any:
  return jax.tree.map(lambda p: p.ndim <= 1, params)


def frozen_steps(config: Config, steps_per_epoch: int) -> int:
  """Returns for how many steps the config's `optimizer.frozen` stand still."""
  return round(config.frozen_epochs * steps_per_epoch)


def _ahead(schedule: Any, steps: int) -> Any:
  """Returns the schedule as it is so many steps later; numbers stay."""
  if not callable(schedule):
    return schedule
  return lambda count: schedule(count + steps)


def matches(path: Sequence[Any], patterns: Sequence[str]) -> bool:
  """Returns whether a parameter is named by `optimizer.frozen` and the like.

  Args:
    path: of the parameter, as `jax.tree.leaves_with_path` gives it.
    patterns: of its name 'encoder/stem_conv/kernel', or of an entry above it:
      'predictor', 'encoder/stem_*'.
  """
  name = jax.tree_util.keystr(tuple(path), simple=True, separator='/')
  return any(
    fnmatch.fnmatchcase(name, pattern)
    or fnmatch.fnmatchcase(name, f'{pattern}/*')
    for pattern in patterns
  )


def _labels(config: Config, field: str) -> Callable[[Any], Any]:
  """Returns params -> the label of each: `field` if a pattern there fits."""

  def labels(params: Any) -> Any:
    # Within another partition some leaves are masked: they are there, too.
    leaves = jax.tree.leaves_with_path(
      params, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
    )
    paths = [path for path, _ in leaves]
    for pattern in config[field]:
      if not any(matches(path, [pattern]) for path in paths):
        raise Error(
          f'optimizer.{field} names {pattern!r}; the entries of the '
          f'parameters are {", ".join(params)}, and a pattern below them is '
          "written as 'encoder/stem_*'"
        )
    return jax.tree.map_with_path(
      lambda path, _: field if matches(path, config[field]) else 'rest', params
    )

  return labels
