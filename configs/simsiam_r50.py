"""SimSiam on ImageNet, ResNet-50 (Chen & He 2020, arXiv 2011.10566).

  python -m contrastive_jax.main --workdir=runs/simsiam_r50 \
      --config=configs/simsiam_r50.py:tfds:imagenet2012

Published, README of facebookresearch/simsiam: linear probe 68.1 % top-1 after
100 epochs of batch 512 (68.3 % with batch 256). Its probe is LARC with batch
4096; with plain SGD it needs a learning rate near 100 (issue 23 there).
Measured here: nothing yet.

The official rate follows the cosine once an epoch, this one every step.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('simsiam', source, presets.MOCO_V2)
  c.batch_size, c.epochs = 512, 100
  c.data.interpolation = 'bilinear'
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.05
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decay_bias_and_norm = True
  c.optimizer.constant_rate = ('predictor',)  # --fix-pred-lr
  return c
