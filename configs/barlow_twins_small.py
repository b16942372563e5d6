"""Barlow Twins for images up to 64 pixels, after solo-learn's CIFAR-10 recipe.

  python -m contrastive_jax.main --workdir=runs/barlow_twins_cifar10 \
      --config=configs/barlow_twins_small.py:tfds:cifar10

Published, README of vturrisi/solo-learn (not by the authors of Barlow Twins):
ResNet-18, 1,000 epochs, 92.10 % with its online linear probe. Measured: README
of this project.

solo-learn's LARS has the trust coefficient 0.02 and never multiplies the
learning rate by more than 1. Ours has no such bound, and the usual 0.001.
"""

from contrastive_jax import config as config_lib
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = config_lib.base()
  c.data.source = source
  c.data.image_size = 0  # the source's own, at most 64 pixels
  c.data.eval_crop = 1.0
  if source == 'tfds:cifar10':
    c.data.mean, c.data.std = presets.CIFAR10_MEAN, presets.CIFAR10_STD
  c.augment.update(presets.SOLO_ASYMMETRIC)
  c.batch_size = 256
  c.epochs = 1000
  c.encoder.name = 'resnet18'
  c.objective.name = 'barlow_twins'
  c.objective.redundancy_weight = 0.0051
  c.objective.loss_scale = 0.1
  c.objective.projector_layers = 3
  c.objective.projector_hidden_size = 2048
  c.objective.projector_output_size = 2048
  c.optimizer.base_learning_rate = 0.3
  c.optimizer.weight_decay = 1e-4
  c.optimizer.learning_rate_inside_momentum = False
  if source == 'digits':
    config_lib.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 512
  return c
