"""MAE for images up to 64 pixels: the recipe of ViT-B/16, less.

  python -m contrastive_jax.main --workdir=runs/mae_digits \
      --config=configs/mae_small.py

Ours, not published: ViT-Ti, patches of 4 pixels (of 2 on digits), a decoder of
two blocks. Measured: experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small('mae', source, presets.MAE, cifar10=presets.IMAGENET)
  recipes.mae(c)
  c.batch_size, c.epochs = 256, 400
  c.encoder.name = 'vit_tiny'
  c.objective.decoder_size = 128
  c.objective.decoder_depth = 2
  c.objective.decoder_heads = 4
  c.optimizer.warmup_epochs = 20.0
  if source == 'digits':
    recipes.vit_for_digits(c)
  return c
