"""Instance discrimination on ImageNet, ResNet-50, with 4,096 noise samples.

Wu et al. 2018 (arXiv 1805.01978).

  python -m contrastive_jax.main --workdir=runs/instance_discrimination_r50 \
      --config=configs/instance_discrimination_r50.py:tfds:imagenet2012

Published, README of zhirongw/lemniscate.pytorch: nearest neighbor 46.8 %
top-1. Measured here: nothing yet.

The bank of 1.28 million rows takes 0.66 GB on every device. The official rate
does not follow the batch; ours does. Its batch norm takes the statistics of
each GPU (DataParallel), ours those of the global batch; encoder.norm='ghost:32'
is what 8 GPUs have.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('instance_discrimination', source, presets.INSTANCE)
  c.batch_size, c.epochs = 256, 200
  c.data.interpolation = 'bilinear'
  c.encoder.zero_init_last_scale = False
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.03
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.schedule = 'step'
  c.optimizer.milestones = (0.6, 0.8)  # epochs 120 and 160
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decay_bias_and_norm = True
  return c
