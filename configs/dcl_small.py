"""DCL for images up to 64 pixels (Yeh et al. 2021, arXiv 2110.06848).

SimCLR without the positive in the denominator.

  python -m contrastive_jax.main --workdir=runs/dcl_cifar10 \
      --config=configs/dcl_small.py:tfds:cifar10

With weighted positives (DCLW): --config.objective.variant=dclw

There is no official code; this is the recipe of raminnakhli/
Decoupled-Contrastive-Learning. Published there: CIFAR-10, ResNet-18, linear
probe after 100 epochs of batch 32, 64, 128, 256: 84.6, 85.6, 85.6, 85.4 %; DCLW
83.3, 82.7, 83.5, 82.7 %; NT-Xent 78.3, 81.5, 83.1, 83.3 %. Measured: README of
this project.

Its loss is the sum over both directions, twice ours, which Adam does not
notice; its DCLW lets the gradient through the weights. Its head ends in a bias
instead of a norm, each view has a pass of its own, and the last scale of a
block begins at 1: here all three are as in our SimCLR.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  # the same as there
  c = recipes.small(
    'simclr', source, presets.MOCO_CIFAR, cifar10=presets.CIFAR10_NARROW
  )
  c.batch_size, c.epochs = 128, 100
  c.data.interpolation = 'bilinear'
  c.objective.variant = 'dcl'
  c.objective.loss_reduction = 'mean'
  c.objective.projector_hidden_size = 512
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 0.002  # x 128/256 = 0.001
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.schedule = 'step'
  c.optimizer.milestones = ()  # constant
  c.optimizer.weight_decay = 1e-6
  if source == 'digits':
    # SimCLR's, but for the variant.
    c.data.interpolation = 'bicubic'
    c.augment.update(presets.SIMCLR_CIFAR)
    recipes.for_digits(c)
    c.objective.temperature = 0.2
    c.objective.projector_hidden_size = 0  # as wide as the encoder's output
    c.optimizer.weight_decay = 1e-4
  return c
