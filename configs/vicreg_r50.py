"""VICReg on ImageNet, ResNet-50 (Bardes et al. 2021, arXiv 2105.04906).

  python -m contrastive_jax.main --workdir=runs/vicreg_r50 \
      --config=configs/vicreg_r50.py:tfds:imagenet2012

Published, README of facebookresearch/vicreg: linear probe 73.2 % top-1 after
1,000 epochs; 100 epochs of batch 512 have base learning rate 0.3. Measured
here: nothing yet, no accelerator was at hand.
"""

from contrastive_jax import config as config_lib
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = config_lib.base()
  c.data.source = source
  c.data.mean, c.data.std = presets.IMAGENET_MEAN, presets.IMAGENET_STD
  c.augment.update(presets.VICREG)
  c.batch_size = 2048
  c.epochs = 1000
  c.objective.name = 'vicreg'
  c.objective.similarity_weight = 25.0
  c.objective.variance_weight = 25.0
  c.objective.covariance_weight = 1.0
  c.objective.variance_form = 'code'
  c.objective.projector_layers = 3
  c.objective.projector_hidden_size = 8192
  c.objective.projector_output_size = 8192
  c.optimizer.base_learning_rate = 0.2
  c.optimizer.weight_decay = 1e-6
  c.optimizer.final_fraction = 0.001
  c.optimizer.learning_rate_inside_momentum = False
  return c
