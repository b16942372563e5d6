"""DINOv2 for images up to 64 pixels: the recipe of ViT-L/16, less.

  python -m contrastive_jax.main --workdir=runs/dinov2_digits \
      --config=configs/dinov2_small.py

Ours, not published: ViT-Ti, patches of 4 pixels (of 2 on digits), batch 256,
no local crops, fewer prototypes, less drop path. On digits the recipe itself
stays at chance; what it took: Xavier's matrices and no layer scale (with small
ones all images begin as one), one rate for all layers, a teacher that stays
sharp, a last layer that is frozen for half of the run. Measured:
experiments/README.md.
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
  c.encoder.layer_scale, c.encoder.vit_init = 0.0, 'xavier'
  c.optimizer.layer_decay, c.optimizer.patch_rate = 1.0, 1.0
  c.objective.num_prototypes = 2048
  c.objective.projector_hidden_size = 1024
  c.objective.teacher_temperature = 0.04
  c.objective.teacher_temperature_epochs = 0
  c.optimizer.warmup_epochs = 10.0
  if source == 'digits':
    recipes.vit_for_digits(c)
    c.objective.num_prototypes = 1024
    c.objective.projector_hidden_size = 512
    c.optimizer.scaling = 'linear'
    c.optimizer.frozen_epochs = 30.0
  return c
