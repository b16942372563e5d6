"""The supervised baseline for images up to 64 pixels: SimCLR's augmentation.

  python -m contrastive_jax.main --workdir=runs/supervised_cifar10 \
      --config=configs/supervised_small.py:tfds:cifar10

The optimizer is that of HobbitLong/SupContrast, main_ce.py. Published in its
README, with crops and flips alone (here: SimCLR's whole augmentation, so that
the comparison with SimCLR is of the objectives) and ResNet-50 (here, as in
`simclr_small.py`, ResNet-18): CIFAR-10 95.0 %, CIFAR-100 75.3 %. Measured:
experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small('supervised', source, presets.SIMCLR_CIFAR)
  c.batch_size, c.epochs = 1024, 500
  c.augment.blur = c.augment.solarize = (0.0,)  # one view
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.2  # x 1024/256 = 0.8
  c.optimizer.warmup_start = 0.0125  # from 0.01
  c.optimizer.final_fraction = 1e-3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.decay_bias_and_norm = True
  if source == 'digits':
    recipes.for_digits(c)
  return c
