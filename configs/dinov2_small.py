"""DINOv2 for images up to 64 pixels: the recipe of ViT-L/16, less.

  python -m contrastive_jax.main --workdir=runs/dinov2_digits \
      --config=configs/dinov2_small.py

Ours, not published: ViT-Ti, patches of 4 pixels (of 2 on digits), batch 256,
no local crops, fewer prototypes, less drop path, no layer scale (from 1e-5 all
images would begin as one). Measured: experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small('dinov2', source, presets.DINOV2, cifar10=presets.IMAGENET)
  recipes.dinov2(c)
  c.batch_size, c.epochs = 256, 200
  c.augment.local_crops = 0
  c.augment.blur = (0.0, 0.0)
  c.encoder.name = 'vit_tiny'
  c.encoder.drop_path = 0.1
  c.encoder.layer_scale = 0.0
  c.objective.num_prototypes = 2048
  c.objective.projector_hidden_size = 1024
  c.objective.teacher_temperature_epochs = 30
  c.optimizer.warmup_epochs = 10.0
  if source == 'digits':
    recipes.vit_for_digits(c)
    c.objective.num_prototypes = 1024
    c.objective.projector_hidden_size = 512
    c.objective.teacher_temperature_epochs = 10
    c.optimizer.scaling = 'linear'
    c.optimizer.frozen_epochs = 5.0
  return c
