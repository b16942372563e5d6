"""SimCLR for images up to 64 pixels (Chen et al. 2020, arXiv 2002.05709, B.9).

  python -m contrastive_jax.main --workdir=runs/digits
  python -m contrastive_jax.main --workdir=runs/cifar10 \
      --config=configs/simclr_small.py:tfds:cifar10

Published: CIFAR-10, ResNet-18, 1,000 epochs of batch 512: "around 91 %" linear
(README of google-research/simclr). Measured: README of this project.
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
    _for_digits(c)
  return c


def _for_digits(c):
  """Ours, not published: 1,438 images of 8 pixels, in two minutes on a CPU."""
  c.batch_size = 128
  c.epochs = 100
  c.encoder.width = 16
  c.objective.temperature = 0.2
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 0.002
  c.optimizer.warmup_epochs = 5.0
  c.augment.crop_scale = (0.5, 1.0)
  c.augment.flip = 0.0  # a mirrored digit is no digit
