"""DINOv2 on ImageNet, ViT-L/16 (Oquab et al. 2023, arXiv 2304.07193).

  python -m contrastive_jax.main --workdir=runs/dinov2_vit_l16 \
      --config=configs/dinov2_vit_l16.py:tfds:imagenet2012

As configs/train/vitl16_short.yaml of facebookresearch/dinov2, on 32 GPUs of 64
images. An epoch is 1,250 steps there: 100 of them are 200 of ImageNet. Not as
there: it clips the gradient of the backbone and of each head by its own norm,
here it is that of all; its class token begins at 1e-6, here at 0.02; where
paths are dropped it computes a part of the batch; its teacher's temperature
moves every step, here every epoch. Published: kNN 81.6 %, linear probe 82.9 %.
Measured here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('dinov2', source, presets.DINOV2)
  recipes.dinov2(c)
  c.batch_size, c.epochs = 2048, 200
  c.encoder.name = 'vit_large'
  c.encoder.drop_path, c.encoder.drop_path_uniform = 0.3, True
  c.encoder.dtype, c.encoder.remat = 'bfloat16', 'blocks'
  c.objective.teacher_temperature_epochs = 60
  c.objective.koleo_group = 64
  c.optimizer.warmup_epochs = 20.0
  c.optimizer.frozen_epochs = 2.0
  return c
