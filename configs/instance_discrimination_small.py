"""Instance discrimination for images up to 64 pixels, by softmax over them all.

Wu et al. 2018 (arXiv 1805.01978).

  python -m contrastive_jax.main --workdir=runs/instance_cifar10 \
      --config=configs/instance_discrimination_small.py:tfds:cifar10

The recipe of zhirongw/lemniscate.pytorch, cifar.py, for CIFAR-10; its README
has no result for it. Measured: experiments/README.md.

Noise samples want a large set of images. On digits, 512 of them train at
temperature 0.5; at 0.1 the loss rises (from 7 to 17.5 in 20 epochs). Probably
because Z, estimated while the bank is random, is too small once the bank holds
images this alike.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small(
    'instance_discrimination',
    source,
    presets.INSTANCE_CIFAR,
    cifar10=presets.CIFAR10_NARROW,
  )
  c.batch_size, c.epochs = 128, 200
  c.data.interpolation = 'bilinear'
  c.encoder.zero_init_last_scale = False
  c.objective.temperature = 0.1
  c.objective.negatives = 0  # softmax over all images; otherwise noise samples
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.06  # x 128/256 = 0.03
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.schedule = 'step'
  c.optimizer.milestones = (0.4, 0.6, 0.8)  # epochs 80, 120 and 160
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decay_bias_and_norm = True
  if source == 'digits':
    recipes.for_digits(c)
  return c
