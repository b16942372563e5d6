"""SimCLR for images up to 64 pixels (Chen et al. 2020, arXiv 2002.05709, B.9).

  python -m contrastive_jax.main --workdir=runs/digits
  python -m contrastive_jax.main --workdir=runs/cifar10 \
      --config=configs/simclr_small.py:tfds:cifar10

Published: CIFAR-10, ResNet-18, 1,000 epochs of batch 512: "around 91 %" linear
(README of google-research/simclr, for its command, whose weight decay and
projector changed between its versions). Measured: README of this project.
"""

from contrastive_jax import config as config_lib
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = config_lib.base()
  c.data.source = source
  c.data.image_size = 0  # the source's own, at most 64 pixels
  c.data.eval_crop = 1.0
  c.batch_size = 512
  c.epochs = 1000
  c.encoder.name = 'resnet18'
  c.objective.name = 'simclr'
  c.objective.variant = 'nt_xent'
  c.objective.dclw_sigma = 0.5  # only of the variant 'dclw'
  c.objective.temperature = 0.5
  c.objective.loss_reduction = 'sum'
  c.objective.projector_layers = 2
  c.objective.projector_hidden_size = 0
  c.objective.projector_output_size = 128
  c.optimizer.base_learning_rate = 1.0
  c.optimizer.weight_decay = 1e-4
  c.augment.update(presets.SIMCLR_CIFAR)
  if source == 'digits':
    config_lib.for_digits(c)
    c.objective.temperature = 0.2
  return c
