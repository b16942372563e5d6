"""MoCo v3 on ImageNet, ViT-S/16 (Chen, Xie & He 2021, arXiv 2104.02057).

  python -m contrastive_jax.main --workdir=runs/moco_v3_vit_s16 \
      --config=configs/moco_v3_vit_s16.py:tfds:imagenet2012

Published, README and CONFIG.md of facebookresearch/moco-v3: linear probe 73.2 %
top-1 after 300 epochs of batch 4,096; fine-tuned 81.4 %. Its ViT-S has 12
heads. The patches stay as they were drawn, without gradient and weight decay,
and all else is decayed. A smaller batch is the more stable one there. Measured
here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('moco_v3', source, presets.MOCO_V3_VIT)
  recipes.moco_v3_vit(c)
  c.batch_size, c.epochs = 4096, 300
  c.data.interpolation = 'bilinear'
  c.encoder.name, c.encoder.heads = 'vit_small', 12
  c.optimizer.warmup_epochs = 40.0
  c.optimizer.frozen_epochs = 300.0
  return c
