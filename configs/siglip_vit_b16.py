"""SigLIP ViT-B/16 (Zhai et al. 2023, arXiv 2303.15343).

  python -m contrastive_jax.main --workdir=runs/siglip_vit_b16 \
      '--config=configs/siglip_vit_b16.py:tar:/data/webli/{00000..99999}.tar' \
      --config.text.tokenizer=siglip/tokenizer.json

Published: SigLIP 2's B/16 at 224 pixels 78.2 % zero-shot on ImageNet
(2502.14786, table 1), of WebLI, which is not public. Not trained here.
Differences: the image tower pools the mean of its patches where the official
one attends to them by a learned query; Adam where it has Adafactor.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tar:/data/webli/{00000..99999}.tar'):
  c = recipes.start('siglip', source)
  c.data.mean, c.data.std = (0.5,) * 3, (0.5,) * 3
  c.data.antialias = True
  c.augment.update(presets.CLIP_CROPS)
  c.encoder.name, c.encoder.patch_size = 'vit_base', 16
  c.encoder.pool = 'mean'
  c.text.vocabulary, c.text.max_length = 32000, 64
  c.text_encoder.update(dict(name='text_base', pool='last'))
  c.batch_size, c.epochs = 32768, 4
  c.optimizer.name, c.optimizer.adam_b2 = 'adamw', 0.95
  c.optimizer.base_learning_rate = 1e-3 * 256 / 32768  # 1e-3 of this batch
  c.optimizer.warmup_epochs = 0.1
  c.optimizer.weight_decay = 1e-4
  return c
