"""Barlow Twins on ImageNet, ResNet-50 (Zbontar et al. 2021, arXiv 2103.03230).

  python -m contrastive_jax.main --workdir=runs/barlow_twins_r50 \
      --config=configs/barlow_twins_r50.py:tfds:imagenet2012

Published, README of facebookresearch/barlowtwins: linear probe 73.5 % top-1
after 1,000 epochs. For other batches its issue 7 gives base rates, after 300
epochs: 128: 0.7, 256: 0.4, 512: 0.3, 1024: 0.25, 2048 and 4096: 0.2. Measured
here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets

# The official all-reduce has no gradient, so that the official gradient is 1/R
# of the true one, which is ours. For LARS it is the same in the weights, if
# they decay R times as much; the rate of biases and norms is to be divided by
# R. This R is the README's, of the published weights; others speak of 32.
_OFFICIAL_GPUS = 16


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('barlow_twins', source, presets.BARLOW_TWINS)
  c.batch_size, c.epochs = 2048, 1000
  c.optimizer.base_learning_rate = 0.2
  c.optimizer.bias_and_norm_rate = 0.0048 / 0.2 / _OFFICIAL_GPUS
  c.optimizer.weight_decay = 1e-6 * _OFFICIAL_GPUS
  c.optimizer.final_fraction = 0.001
  c.optimizer.learning_rate_inside_momentum = False
  return c
