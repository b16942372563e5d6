"""SimCLR on ImageNet, ResNet-50 (Chen et al. 2020, arXiv 2002.05709).

  python -m contrastive_jax.main --workdir=runs/simclr_r50 \
      --config=configs/simclr_r50.py:tfds:imagenet2012

Published: linear probe 64.5 % top-1 after 100 epochs with this recipe, 69.1 %
after 1,000 (README of google-research/simclr). Measured here: nothing yet, no
accelerator was at hand.
"""

from contrastive_jax import config as config_lib


def get_config(source='tfds:imagenet2012'):
  c = config_lib.base()
  c.data.source = source
  c.batch_size = 4096
  c.epochs = 100
  c.objective.name = 'simclr'
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
