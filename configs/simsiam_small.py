"""SimSiam for images up to 64 pixels (Chen & He 2020, arXiv 2011.10566, D).

  python -m contrastive_jax.main --workdir=runs/simsiam_cifar10 \
      --config=configs/simsiam_small.py:tfds:cifar10

Published: CIFAR-10, ResNet-18, 800 epochs of batch 512: linear 91.8 %, kNN near
90 % (appendix D of the paper, as quoted by others). Measured: README of this
project.
"""

from contrastive_jax import config as config_lib
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = config_lib.base()
  c.data.source = source
  c.data.image_size = 0  # the source's own, at most 64 pixels
  c.data.eval_crop = 1.0
  c.data.interpolation = 'bilinear'
  if source == 'tfds:cifar10':
    c.data.mean, c.data.std = presets.CIFAR10_MEAN, presets.CIFAR10_STD
  c.augment.update(presets.SIMSIAM_CIFAR)
  c.batch_size = 512
  c.epochs = 800
  c.encoder.name = 'resnet18'
  c.objective.name = 'simsiam'
  c.objective.stop_gradient = True
  c.objective.projector_layers = 2
  c.objective.projector_hidden_size = 2048
  c.objective.projector_output_size = 2048
  c.objective.predictor_hidden_size = 512
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.03
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decay_bias_and_norm = True
  c.optimizer.constant_rate = ('predictor',)
  if source == 'digits':
    config_lib.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 512
    c.objective.predictor_hidden_size = 128
  return c
