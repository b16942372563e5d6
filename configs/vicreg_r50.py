"""VICReg on ImageNet, ResNet-50 (Bardes et al. 2021, arXiv 2105.04906).

  python -m contrastive_jax.main --workdir=runs/vicreg_r50 \
      --config=configs/vicreg_r50.py:tfds:imagenet2012

Published, README of facebookresearch/vicreg: linear probe 73.2 % top-1 after
1,000 epochs; 100 epochs of batch 512 have base learning rate 0.3. Measured
here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('vicreg', source, presets.VICREG)
  c.batch_size, c.epochs = 2048, 1000
  c.optimizer.base_learning_rate = 0.2
  c.optimizer.weight_decay = 1e-6
  c.optimizer.final_fraction = 0.001
  c.optimizer.learning_rate_inside_momentum = False
  return c
