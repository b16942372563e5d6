"""LeJEPA for images up to 64 pixels.

  python -m contrastive_jax.main --workdir=runs/lejepa_cifar10 \
      --config=configs/lejepa_small.py:tfds:cifar10

Ours, not published, after the author's example for Imagenette (MINIMAL.md of
galilai-group/lejepa): its jitter, crops, rate, batch and 256 slices. That one
has a ViT-S, 4 views, lambda 0.02, weight decay 0.05 and 16 outputs; the decay
here is that of its README for ResNets. Measured: experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small('lejepa', source, presets.LEJEPA_SMALL, presets.CIFAR10)
  c.batch_size, c.epochs = 256, 800
  c.objective.slices = 256
  c.objective.projector_output_size = 64
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 2e-3
  c.optimizer.final_fraction = 1e-3
  c.optimizer.weight_decay = 5e-4
  c.optimizer.warmup_epochs = 10.0
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 64
  return c
