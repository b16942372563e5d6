"""BYOL on ImageNet, ResNet-50 (Grill et al. 2020, arXiv 2006.07733).

  python -m contrastive_jax.main --workdir=runs/byol_r50 \
      --config=configs/byol_r50.py:tfds:imagenet2012

Published, README of deepmind-research/byol: linear probe 74.0 to 74.5 % top-1
after 1,000 epochs. Its shorter runs have base learning rate 0.3, tau 0.99 and
weight decay 1e-6 (300 epochs), or 0.45, 0.99 and 1e-6 (100 epochs). Measured
here: nothing yet.

The released code, and this, start the last scale of each residual block at 0;
the paper's numbers came without (encoder.zero_init_last_scale).
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('byol', source, presets.BYOL)
  c.batch_size, c.epochs = 4096, 1000
  c.optimizer.base_learning_rate = 0.2
  c.optimizer.weight_decay = 1.5e-6
  c.optimizer.learning_rate_inside_momentum = False
  return c
