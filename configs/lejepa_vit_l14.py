"""LeJEPA on ImageNet, ViT-L/14 (Balestriero and LeCun 2025, 2511.08544).

  python -m contrastive_jax.main --workdir=runs/lejepa_vit_l14 \
      --config=configs/lejepa_vit_l14.py:tfds:imagenet2012

Optimizer, crops (2 of 224 pixels and 6 of 98) and colors as the README of
galilai-group/lejepa has them; its ViT-L was trained for 100 epochs. Batch and
warm-up are ours, for it names none; drop path is that of its example, a ViT-S.
Published: 79 % in a linear probe, of ViT-H/14; of ViT-L, other data sets alone.
Measured here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('lejepa', source, presets.LEJEPA)
  recipes.lejepa(c)
  c.encoder.name = 'vit_large'
  c.encoder.patch_size = 14
  c.encoder.drop_path = 0.1
  c.optimizer.weight_decay = 0.05
  return c
