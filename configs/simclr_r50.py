"""SimCLR on ImageNet, ResNet-50 (Chen et al. 2020, arXiv 2002.05709).

  python -m contrastive_jax.main --workdir=runs/simclr_r50 \
      --config=configs/simclr_r50.py:tfds:imagenet2012

Published, README of google-research/simclr: linear probe 64.5 % top-1 after 100
epochs, 69.1 % after 1,000; its commands have weight decay 1e-4 where this is
the paper's 1e-6. Measured here: nothing yet.

Unlike the official code, which draws a crop up to 100 times until it fits, ours
is drawn once and clipped to the image, as BYOL's is.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('simclr', source, presets.SIMCLR)
  c.batch_size, c.epochs = 4096, 100
  c.data.mean = c.data.std = ()  # pixels in [0, 1], as official
  # 0.3 x 4096/256 = 4.8; at this batch the square-root rule gives the same.
  c.optimizer.base_learning_rate = 0.3
  # The paper's. The official commands for ImageNet say 1e-4.
  c.optimizer.weight_decay = 1e-6
  return c
