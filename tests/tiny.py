"""Configs that compile fast."""

import types

import ml_collections

from configs import simclr_small
from contrastive_jax.models import encoders
from experiments import small_configs


def get_config(source: str = 'digits') -> ml_collections.ConfigDict:
  """SimCLR on 8 x 8 digits with two residual blocks, 64 images a step."""
  c = shrink(simclr_small.get_config(source))
  c.objective.temperature = 0.5
  c.optimizer.name = 'lars'
  c.optimizer.base_learning_rate = 1.0
  c.augment.flip = 0.5
  return c


def config_of(name: str) -> ml_collections.ConfigDict:
  """Any configs/<name>.py, or one of OPTIONS, as small."""
  stem, overrides = name, {}
  if name in small_configs.OPTIONS:
    objective, overrides = small_configs.OPTIONS[name]
    stem = f'{objective}_small'
  c = shrink(small_configs.load(stem.removesuffix('_small')))
  c.update_from_flattened_dict(overrides)
  return c


def shrink(c: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Makes a config small in place: encoder, heads, batch, steps."""
  c.encoder.name = small_configs.tiny_encoder(c)
  c.encoder.width = 8
  if c.text_encoder.name:
    c.text_encoder.name = '_text_micro'
  c.encoder.depth = 0
  c.batch_size = 64
  c.steps = 4
  c.log.every_steps = 2
  c.checkpoint.every_steps = 2
  c.evaluation.batch_size = 16
  for field, value in c.objective.items():
    if field == 'queue_size' and value:
      c.objective[field] = 3 * c.batch_size  # comes round after 3 steps
    elif field.endswith('_size') and value > 64:
      c.objective[field] = 64
  if 'slices' in c.objective:
    # VISReg sorts: the fewer, the fewer ties that the last bit decides.
    c.objective.slices = 64
  return c


config = get_config


def make_encoder(c: ml_collections.ConfigDict, image_size: int):
  """The module that a config's `encoder` names."""
  run = types.SimpleNamespace(input_shape=(image_size, image_size, 3))
  return encoders.make(c, run).module
