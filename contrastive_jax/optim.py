"""Optimizers, and which parameters each part of them touches."""

from typing import Any

import jax
import optax

from contrastive_jax.config import Config


def make_optimizer(
  config: Config, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
  """Returns the optimizer of the config's `optimizer`.

  Args:
    config: `name` lars, sgd or adamw, and the fields of contrastive_jax.config.
      LARS in two orders: learning_rate_inside_momentum=True accumulates
      learning rate times gradient (SimCLR's official code), False multiplies
      the accumulated gradient by the learning rate (BYOL, MoCo v3, Barlow
      Twins, VICReg). They differ while the rate changes.
    learning_rate: step -> rate.

  Returns:
    An optax transformation. Weight decay and, for LARS, the trust ratio leave
    out biases and normalisation (parameters of one dimension or none) unless
    decay_bias_and_norm.

  Raises:
    ValueError: unknown name.

  Reference:
    You et al. 2017 (arXiv 1708.03888); simclr tf2/lars_optimizer.py; byol
    utils/optimizers.py. The ratio is trust_coefficient x |w| / |g + decay w|,
    and 1 where either norm is 0.
  """
  mask = lambda params: decayed(config, params)  # noqa: E731
  decay = optax.add_decayed_weights(config.weight_decay, mask)
  rate = optax.scale_by_learning_rate(learning_rate)
  if config.name == 'adamw':
    return optax.adamw(
      learning_rate, weight_decay=config.weight_decay, mask=mask
    )
  momentum = optax.trace(config.momentum, config.nesterov)
  if config.name == 'sgd':
    return optax.chain(decay, momentum, rate)
  if config.name == 'lars':
    adapt = optax.masked(
      optax.scale_by_trust_ratio(trust_coefficient=config.trust_coefficient),
      mask,
    )
    if config.learning_rate_inside_momentum:
      return optax.chain(decay, adapt, rate, momentum)
    return optax.chain(decay, adapt, momentum, rate)
  raise ValueError(
    f"optimizer.name is 'lars', 'sgd' or 'adamw', not {config.name!r}"
  )


def decayed(config: Config, params: Any) -> Any:
  """Returns, for each parameter, whether it is decayed (LARS: and adapted)."""
  return jax.tree.map(
    lambda p: config.decay_bias_and_norm or p.ndim > 1, params
  )


def parameter_groups(config: Config, params: Any) -> str:
  """Returns a table of the groups of parameters that are treated alike.

  Args:
    config: the config's `optimizer`.
    params: arrays, or their shapes.

  Returns:
    Lines of text: the treatment, how many tensors and values, and an example.
  """
  treatments = {
    True: 'decayed and adapted' if config.name == 'lars' else 'decayed',
    False: 'neither' if config.name == 'lars' else 'not decayed',
  }
  flags = jax.tree.leaves(decayed(config, params))
  leaves = jax.tree.leaves_with_path(params)
  lines = [
    f'optimizer {config.name}, weight decay {config.weight_decay:g}',
    f'{"parameters":<20} {"tensors":>8} {"values":>12}  for example',
  ]
  for flag, treatment in treatments.items():
    group = [
      (path, p) for (path, p), f in zip(leaves, flags, strict=True) if f == flag
    ]
    if group:
      example = jax.tree_util.keystr(group[0][0], simple=True, separator='/')
      size = sum(p.size for _, p in group)
      lines.append(f'{treatment:<20} {len(group):>8} {size:>12,}  {example}')
  return '\n'.join(lines)
