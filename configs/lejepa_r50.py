"""LeJEPA on ImageNet, ResNet-50 (Balestriero and LeCun 2025, 2511.08544).

  python -m contrastive_jax.main --workdir=runs/lejepa_r50 \
      --config=configs/lejepa_r50.py:tfds:imagenet2012

Optimizer, crops and colors as the README of galilai-group/lejepa has them, for
all encoders, but that all views are global, as the paper wants it of a ResNet:
four, which is what users have reported. Batch and epochs are ours, for it names
none. Published for ResNet-50: nothing on ImageNet; about 84 % on 100 of its
classes, by the author, in issue 28 there. Measured here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('lejepa', source, presets.LEJEPA)
  recipes.lejepa(c)
  c.augment.local_crops = 0
  c.augment.blur, c.augment.solarize = (0.5,) * 4, (0.2,) * 4
  c.optimizer.weight_decay = 5e-4
  return c
