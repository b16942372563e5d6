"""SimCLR for images up to 64 pixels (Chen et al. 2020, arXiv 2002.05709, B.9).

  python -m contrastive_jax.main --workdir=runs/digits
  python -m contrastive_jax.main --workdir=runs/cifar10 \
      --config=configs/simclr_small.py:tfds:cifar10

Published: CIFAR-10, ResNet-18, 1,000 epochs of batch 512: "around 91 %" linear
(README of google-research/simclr, for its command, whose weight decay and
projector changed between its versions). Measured: experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small('simclr', source, presets.SIMCLR_CIFAR)
  c.batch_size, c.epochs = 512, 1000
  c.objective.temperature = 0.5
  c.optimizer.base_learning_rate = 1.0
  c.optimizer.weight_decay = 1e-4
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.temperature = 0.2
  return c
