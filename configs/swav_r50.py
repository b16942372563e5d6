"""SwAV on ImageNet, ResNet-50 (Caron et al. 2020, arXiv 2006.09882).

  python -m contrastive_jax.main --workdir=runs/swav_r50 \
      --config=configs/swav_r50.py:tfds:imagenet2012

Published, README of facebookresearch/swav: linear probe 72.1, 73.9, 74.6,
75.3 % top-1 after 100, 200, 400, 800 epochs, which differ in nothing else.
Measured here: nothing yet, no accelerator was at hand.

Batch 256 (72.7 % after 200 epochs): batch_size=256,
optimizer.base_learning_rate=0.6, optimizer.warmup_epochs=0,
objective.queue_size=3840, objective.queue_start_epoch=15.
"""

from contrastive_jax import config as config_lib
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = config_lib.base()
  c.data.source = source
  c.data.interpolation = 'bilinear'
  c.data.mean, c.data.std = presets.IMAGENET_MEAN, presets.SWAV_STD
  c.augment.update(presets.SWAV)
  c.batch_size = 4096
  c.epochs = 100
  c.encoder.zero_init_last_scale = False
  c.objective.name = 'swav'
  c.objective.temperature = 0.1
  c.objective.num_prototypes = 3000
  c.objective.sinkhorn_epsilon = 0.05
  c.objective.sinkhorn_iterations = 3
  c.objective.queue_size = 0
  c.objective.queue_start_epoch = 0.0
  c.objective.projector_hidden_size = 2048
  c.objective.projector_output_size = 128
  c.optimizer.name = 'larc'
  c.optimizer.base_learning_rate = 0.3  # x 4096/256 = the official 4.8
  c.optimizer.warmup_start = 0.3 / 4.8
  c.optimizer.final_fraction = 1e-3
  c.optimizer.weight_decay = 1e-6
  c.optimizer.frozen = ('prototypes',)
  c.optimizer.frozen_epochs = 1.0
  return c
