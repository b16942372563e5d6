"""SwAV on ImageNet, ResNet-50 (Caron et al. 2020, arXiv 2006.09882).

  python -m contrastive_jax.main --workdir=runs/swav_r50 \
      --config=configs/swav_r50.py:tfds:imagenet2012

Published, README of facebookresearch/swav: linear probe 72.1, 73.9, 74.6,
75.3 % top-1 after 100, 200, 400, 800 epochs, which differ in nothing else.
Measured here: nothing yet.

Batch 256 (72.7 % after 200 epochs): batch_size=256,
optimizer.base_learning_rate=0.6, optimizer.warmup_epochs=0,
objective.queue_size=3840, objective.queue_start_epoch=15.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('swav', source, presets.SWAV)
  c.batch_size, c.epochs = 4096, 100
  c.data.interpolation = 'bilinear'
  c.data.mean, c.data.std = presets.IMAGENET_MEAN, presets.SWAV_STD
  c.encoder.zero_init_last_scale = False
  c.optimizer.name = 'larc'
  c.optimizer.base_learning_rate = 0.3  # x 4096/256 = the official 4.8
  c.optimizer.warmup_start = 0.3 / 4.8
  c.optimizer.final_fraction = 1e-3
  c.optimizer.weight_decay = 1e-6
  c.optimizer.frozen = ('prototypes',)
  c.optimizer.frozen_epochs = 1.0
  return c
