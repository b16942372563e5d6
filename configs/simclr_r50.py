"""SimCLR on ImageNet, ResNet-50 (Chen et al. 2020, arXiv 2002.05709).

  python -m contrastive_jax.main --workdir=runs/simclr_r50 \
      --config=configs/simclr_r50.py:tfds:imagenet2012

Published, README of google-research/simclr: linear probe 64.5 % top-1 after 100
epochs, 69.1 % after 1,000; its commands have weight decay 1e-4 where this is
the paper's 1e-6. Measured here: nothing yet, no accelerator was at hand.

Unlike the official code, which draws a crop up to 100 times until it fits, ours
is drawn once and clipped to the image, as BYOL's is.
"""

from contrastive_jax import config as config_lib


def get_config(source='tfds:imagenet2012'):
  c = config_lib.base()
  c.data.source = source
  c.batch_size = 4096
  c.epochs = 100
  c.objective.name = 'simclr'
  c.objective.variant = 'nt_xent'
  c.objective.dclw_sigma = 0.5  # only of the variant 'dclw'
  c.objective.temperature = 0.1
  c.objective.loss_reduction = 'sum'
  c.objective.projector_layers = 2
  c.objective.projector_hidden_size = 0  # as wide as the encoder's output
  c.objective.projector_output_size = 128
  # 0.3 x 4096/256 = 4.8; at this batch the square-root rule gives the same.
  c.optimizer.base_learning_rate = 0.3
  # The paper's. The official commands for ImageNet say 1e-4.
  c.optimizer.weight_decay = 1e-6
  return c
