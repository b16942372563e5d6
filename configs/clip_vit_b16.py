"""CLIP ViT-B/16 (Radford et al. 2021, arXiv 2103.00020), as of open_clip.

  python -m contrastive_jax.main --workdir=runs/clip_vit_b16 \
      '--config=configs/clip_vit_b16.py:tar:/laion400m/{00000..41455}.tar' \
      --config.text.tokenizer=clip/tokenizer.json

32,768 pairs a batch, 32 epochs of LAION-400M. Published: 67.1 % zero-shot on
ImageNet (open_clip, docs/openclip_results.csv). Not trained here. Differences
from the official towers: no norm before the blocks of the image tower, and a
bias in its patches; the exact GELU, as open_clip's own, where OpenAI's has
x sigmoid(1.702 x).
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tar:/laion400m/{00000..41455}.tar'):
  c = recipes.start('clip', source)
  c.data.mean, c.data.std = presets.CLIP
  c.data.antialias = True
  c.augment.update(presets.CLIP_CROPS)
  c.encoder.name, c.encoder.patch_size = 'vit_base', 16
  c.text.vocabulary, c.text.max_length = 49408, 77
  c.text_encoder.update(
    dict(name='text_medium', depth=12, causal=True, pool='last')
  )
  c.batch_size, c.epochs = 32768, 32
  c.optimizer.name, c.optimizer.adam_b2 = 'adamw', 0.98
  c.optimizer.base_learning_rate = 5e-4 * 256 / 32768  # 5e-4 of this batch
  c.optimizer.warmup_epochs = 10_000 * 32768 / 400e6
  c.optimizer.weight_decay = 0.2
  return c
