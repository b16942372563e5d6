"""A config that compiles fast."""

import ml_collections

from configs import simclr_small


def get_config(source: str = 'digits') -> ml_collections.ConfigDict:
  """SimCLR on 8 x 8 digits with two residual blocks, 64 images a step."""
  c = simclr_small.get_config(source)
  c.encoder.name = '_tiny'
  c.encoder.width = 8
  c.batch_size = 64
  c.objective.temperature = 0.5
  c.optimizer.name = 'lars'
  c.optimizer.base_learning_rate = 1.0
  c.augment.flip = 0.5
  c.steps = 4
  c.log.every_steps = 2
  c.checkpoint.every_steps = 2
  c.evaluation.batch_size = 128
  c.evaluation.probe_epochs = 5
  return c


config = get_config
