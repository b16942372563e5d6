"""VICRegL on ImageNet, ResNet-50 (Bardes, Ponce & LeCun 2022, 2210.01571).

  python -m contrastive_jax.main --workdir=runs/vicregl_r50 \
      --config=configs/vicregl_r50.py:tfds:imagenet2012

The command for ResNet-50 on 32 GPUs of the README of facebookresearch/VICRegL.
Published there: linear probe 70.4 %, and 55.9 mIoU in linear segmentation of
Pascal VOC; with alpha 0.9 71.2 and 54.0. Measured here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('vicregl', source, presets.VICREG)
  c.batch_size, c.epochs = 2048, 300
  c.data.std = presets.SWAV_STD
  c.objective.mirrored = False
  c.optimizer.base_learning_rate = 0.2
  c.optimizer.weight_decay = 1e-6
  c.optimizer.final_fraction = 0.001
  c.optimizer.learning_rate_inside_momentum = False
  return c
