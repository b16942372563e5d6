"""VISReg for images up to 64 pixels.

  python -m contrastive_jax.main --workdir=runs/visreg_cifar10 \
      --config=configs/visreg_small.py:tfds:cifar10

Ours, not published, after the authors' for Imagenette (configs/imagenette.yaml
of HaiyuWu/visreg: lambda 0.6, rate, decay, clipping, crops, jitter). That one
has a ViT-S, 4 views with blur and solarization, batch 64, 4,096 slices and one
epoch of warm-up. Measured: experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small('visreg', source, presets.VISREG_SMALL, presets.IMAGENET)
  c.batch_size, c.epochs = 256, 800
  c.augment.blur, c.augment.solarize = (0.0, 0.0), (0.0, 0.0)
  c.objective.regularizer_weight = 0.6
  c.objective.slices = 1024
  c.objective.projector_output_size = 128
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 1e-3
  c.optimizer.final_fraction = 1e-3
  c.optimizer.weight_decay = 0.05
  c.optimizer.clip_norm = 1.0
  c.optimizer.warmup_epochs = 10.0
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 64
  return c
