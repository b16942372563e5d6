"""MoCo v1 on ImageNet, ResNet-50 (He et al. 2020, arXiv 1911.05722).

  python -m contrastive_jax.main --workdir=runs/moco_v1_r50 \
      --config=configs/moco_v1_r50.py:tfds:imagenet2012

Published, README of facebookresearch/moco: linear probe 60.6 % top-1 after 200
epochs. Measured here: nothing yet.

The official rate does not follow the batch; ours does, as its README advises.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('moco', source, presets.MOCO_V1)
  c.batch_size, c.epochs = 256, 200
  c.data.interpolation = 'bilinear'
  # 256 images on 8 GPUs, each with its own batch statistics.
  c.encoder.norm = 'ghost:32'
  c.encoder.zero_init_last_scale = False
  c.objective.temperature = 0.07
  c.objective.projector_layers = 1
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.03
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.schedule = 'step'
  c.optimizer.milestones = (0.6, 0.8)  # epochs 120 and 160
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decay_bias_and_norm = True
  return c
