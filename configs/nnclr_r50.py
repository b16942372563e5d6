"""NNCLR on ImageNet, ResNet-50 (Dwibedi et al. 2021, arXiv 2104.14548).

  python -m contrastive_jax.main --workdir=runs/nnclr_r50 \
      --config=configs/nnclr_r50.py:tfds:imagenet2012

Published, in the paper: linear probe 75.4 % top-1 after 1,000 epochs with two
views. Measured here: nothing yet.

There is no official code. The paper does not say in which order its LARS
multiplies; the choice here is BYOL's.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('nnclr', source, presets.BYOL)
  c.batch_size, c.epochs = 4096, 1000
  c.optimizer.base_learning_rate = 0.3
  c.optimizer.weight_decay = 1e-6
  c.optimizer.learning_rate_inside_momentum = False
  return c
