"""VICRegL on ImageNet, ConvNeXt-S (Bardes, Ponce & LeCun 2022, 2210.01571).

  python -m contrastive_jax.main --workdir=runs/vicregl_convnext \
      --config=configs/vicregl_convnext.py:tfds:imagenet2012

The command for ConvNeXt-S on 8 GPUs of the README of facebookresearch/VICRegL.
Not as there: branches begin at 1e-6, as in the paper on ConvNeXt (no such
factor); the feature of an image is the norm of the mean of its places (the mean
of their norms); local crops are blurred with probability 0.55 and solarized
with 0.1 (in turn 1 and 0.1, 0 and 0.2). Published there, of longer runs with
alpha 0.75: linear probe 74.6 %, and 67.5 mIoU in linear segmentation of Pascal
VOC; with alpha 0.9 75.9 and 66.7. Measured here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('vicregl', source, presets.VICREGL)
  c.batch_size, c.epochs = 384, 100
  c.data.std = presets.SWAV_STD
  c.encoder.name = 'convnext_small'
  c.encoder.drop_path = 0.1
  c.objective.mirrored = False
  c.objective.projector_norm = 'layer'
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 7.5e-4
  c.optimizer.weight_decay = 0.05
  c.optimizer.final_fraction = 0.001
  return c
