"""LeJEPA on ImageNet, ViT-L/14 (Balestriero and LeCun 2025, 2511.08544).

  python -m contrastive_jax.main --workdir=runs/lejepa_vit_l14 \
      --config=configs/lejepa_vit_l14.py:tfds:imagenet2012

Optimizer, crops (2 of 224 pixels and 6 of 98) and colors as the README of
galilai-group/lejepa has them; its ViT-L was trained for 100 epochs. Batch,
warm-up and drop path are ours, for it names none. Published: 79 % of a linear
probe, of ViT-H/14; of ViT-L other data sets. Measured here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('lejepa', source, presets.LEJEPA)
  c.batch_size, c.epochs = 512, 100
  c.encoder.name = 'vit_large'
  c.encoder.patch_size = 14
  c.encoder.drop_path = 0.1
  c.encoder.dtype = 'bfloat16'
  c.optimizer.name = 'adamw'
  c.optimizer.scaling = 'sqrt'
  c.optimizer.base_learning_rate = 5e-4 / 512**0.5
  c.optimizer.final_fraction = 1e-3
  c.optimizer.weight_decay = 0.05
  c.optimizer.warmup_epochs = 10.0
  return c
