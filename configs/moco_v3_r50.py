"""MoCo v3 on ImageNet, ResNet-50 (Chen, Xie & He 2021, arXiv 2104.02057).

  python -m contrastive_jax.main --workdir=runs/moco_v3_r50 \
      --config=configs/moco_v3_r50.py:tfds:imagenet2012

Published, README and CONFIG.md of facebookresearch/moco-v3: linear probe 68.9,
72.8, 74.6 % top-1 after 100, 300, 1,000 epochs; 300 and 1,000 have base
learning rate 0.3, and 1,000 has tau 0.996 and weight decay 1.5e-6. Measured
here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('moco_v3', source, presets.MOCO_V3)
  c.batch_size, c.epochs = 4096, 100
  c.data.interpolation = 'bilinear'
  c.optimizer.base_learning_rate = 0.6
  c.optimizer.weight_decay = 1e-6
  c.optimizer.learning_rate_inside_momentum = False
  return c
