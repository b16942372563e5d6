"""DINO on ImageNet, ViT-S/16 (Caron et al. 2021, arXiv 2104.14294).

  python -m contrastive_jax.main --workdir=runs/dino_vit_s16 \
      --config=configs/dino_vit_s16.py:tfds:imagenet2012

The defaults of main_dino.py of facebookresearch/dino, on 8 GPUs of 64 images,
100 epochs. Published there: kNN 69.3 %, linear probe 74.0 % top-1. After 300
epochs, with a teacher's temperature from 0.04 to 0.07 over 30 of them and a
last layer whose lengths are learned: 72.8 and 76.1 %. Measured here: nothing
yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('dino', source, presets.DINO)
  recipes.dino_vit(c)
  c.batch_size, c.epochs = 512, 100
  c.encoder.name = 'vit_small'
  c.optimizer.warmup_epochs = 10.0
  return c
