"""DINO with a ViT for images up to 64 pixels: the recipe of ViT-S/16, less.

  python -m contrastive_jax.main --workdir=runs/dino_vit_digits \
      --config=configs/dino_vit_small.py

Ours, not published: ViT-Ti, patches of 4 pixels (of 2 on digits), batch 256,
no local crops, fewer prototypes, and batch norm in the head, as in the released
ResNet: without it the short run on digits stays at chance, all images alike.
Optimizer, temperatures and drop path are those of ViT-S/16. Measured:
experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small('dino', source, presets.DINO, cifar10=presets.IMAGENET)
  recipes.dino_vit(c)
  c.batch_size, c.epochs = 256, 200
  c.augment.local_crops = 0
  c.augment.blur = (0.0, 0.0)
  # Without local crops, as the official README advises.
  c.augment.crop_scale = (0.14, 1.0)
  c.encoder.name = 'vit_tiny'
  c.objective.projector_norm = True
  c.objective.num_prototypes = 2048
  c.objective.projector_hidden_size = 1024
  c.optimizer.warmup_epochs = 10.0
  if source == 'digits':
    recipes.vit_for_digits(c)
    c.objective.num_prototypes = 1024
    c.objective.projector_hidden_size = 512
    c.optimizer.frozen_epochs = 5.0
  return c
