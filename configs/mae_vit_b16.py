"""MAE on ImageNet, ViT-B/16 (He et al. 2021, arXiv 2111.06377).

  python -m contrastive_jax.main --workdir=runs/mae_vit_b16 \
      --config=configs/mae_vit_b16.py:tfds:imagenet2012

As PRETRAIN.md of facebookresearch/mae. Not as there: query, key and value are
three matrices to Xavier's rule, so sqrt(2) larger than its one; the class token
begins at 1e-6 (0.02); the table of positions has the row first. Published,
after 1,600 epochs: linear probe 68.0 % (table 12), 83.6 % fine-tuned. Measured
here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('mae', source, presets.MAE)
  recipes.mae(c)
  c.batch_size, c.epochs = 4096, 800
  c.encoder.name = 'vit_base'
  c.encoder.dtype = 'bfloat16'
  c.optimizer.warmup_epochs = 40.0
  return c
