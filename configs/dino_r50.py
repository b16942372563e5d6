"""DINO on ImageNet, ResNet-50 (Caron et al. 2021, arXiv 2104.14294).

  python -m contrastive_jax.main --workdir=runs/dino_r50 \
      --config=configs/dino_r50.py:tfds:imagenet2012

The command for ResNet-50 of the README of facebookresearch/dino (8 GPUs of 64
images, 100 epochs). Published there: kNN 67.5 %, linear probe 75.3 % top-1, of
a longer run: 800 epochs of batch 4,080, LARS with base learning rate 0.3 and
weight decay 1e-6, 60,000 prototypes, batch norm in the head, no clipping, 6
local crops, teacher temperature 0.04 to 0.07 over 50 epochs. Measured here:
nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('dino', source, presets.DINO_RN50)
  c.batch_size, c.epochs = 512, 100
  c.encoder.zero_init_last_scale = False
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.03
  c.optimizer.final_fraction = 1e-6 / 0.06
  c.optimizer.weight_decay = 1e-4
  c.optimizer.clip_tensor_norm = 3.0
  c.optimizer.frozen = ('last_layer',)
  c.optimizer.frozen_epochs = 1.0
  return c
