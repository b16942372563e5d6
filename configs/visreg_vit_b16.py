"""VISReg on ImageNet, ViT-B/16 (Wu, Balestriero & Levine 2026, 2606.02572).

  python -m contrastive_jax.main --workdir=runs/visreg_vit_b16 \
      --config=configs/visreg_vit_b16.py:tfds:imagenet2012

As configs/default.yaml of HaiyuWu/visreg, on 8 GPUs of 16 images; its projector
sees the large crops and the small ones apart, which have batch statistics of
their own, ours all together. Published: 75.7 %, a linear probe after 400
epochs. Measured here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('visreg', source, presets.VISREG)
  c.batch_size, c.epochs = 128, 100
  c.encoder.name = 'vit_base'
  c.encoder.drop_path = 0.1
  c.encoder.dtype = 'bfloat16'
  c.optimizer.name = 'adamw'
  c.optimizer.scaling = 'linear'
  c.optimizer.base_learning_rate = 9e-4 * 256 / 128
  c.optimizer.warmup_start = 1e-3
  c.optimizer.warmup_epochs = 5.0
  c.optimizer.final_fraction = 1e-3
  c.optimizer.weight_decay = 0.05
  c.optimizer.clip_norm = 1.0
  return c
