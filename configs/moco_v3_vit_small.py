"""MoCo v3 with a ViT for images up to 64 pixels: the recipe of ViT-S/16, less.

  python -m contrastive_jax.main --workdir=runs/moco_v3_vit_digits

Ours, not published: ViT-Ti, patches of 4 pixels (of 2 on digits), batch 256.
The heads, the frozen patches and the decay of all are those of ViT-S/16.
Measured: experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small('moco_v3', source, presets.SOLO_ASYMMETRIC)
  recipes.moco_v3_vit(c)
  c.batch_size, c.epochs = 256, 200
  c.encoder.name = 'vit_tiny'
  c.objective.projector_hidden_size = 1024
  c.objective.projector_output_size = 128
  c.objective.predictor_hidden_size = 1024
  c.optimizer.base_learning_rate = 5e-4
  c.optimizer.warmup_epochs = 10.0
  c.optimizer.frozen_epochs = 200.0
  if source == 'digits':
    recipes.vit_for_digits(c)
  return c
