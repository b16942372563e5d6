"""SupCon for images up to 64 pixels (Khosla et al. 2020, arXiv 2004.11362).

  python -m contrastive_jax.main --workdir=runs/supcon_cifar10 \
      --config=configs/supcon_small.py:tfds:cifar10

Published, README of HobbitLong/SupContrast: ResNet-50, linear probe, CIFAR-10
96.0 % (cross entropy 95.0 %, SimCLR 93.6 %), CIFAR-100 76.5 % (75.3 %, 70.7 %).
Measured: experiments/README.md.

The official cosine runs over all epochs and moves once in each; ours begins
after the warm-up and moves every step.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small(
    'supcon', source, presets.SUPCON, cifar10=presets.CIFAR10_NARROW
  )
  c.batch_size, c.epochs = 1024, 1000
  c.data.interpolation = 'bilinear'
  if source == 'tfds:cifar100':
    c.data.mean, c.data.std = presets.CIFAR100_MEAN, presets.CIFAR100_STD
  c.encoder.name = 'resnet50'
  c.encoder.zero_init_last_scale = False
  c.objective.base_temperature = 0.07
  c.objective.normalize_features = False
  c.objective.projector_layers = 2
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.125  # x 1024/256 = 0.5
  c.optimizer.warmup_start = 0.02  # from 0.01
  c.optimizer.final_fraction = 1e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decay_bias_and_norm = True
  if source == 'digits':
    recipes.for_digits(c)
    c.encoder.name = 'resnet18'
  return c
