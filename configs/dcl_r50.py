"""DCL on ImageNet, ResNet-50 (Yeh et al. 2021, arXiv 2110.06848).

SimCLR without the positive in the denominator.

  python -m contrastive_jax.main --workdir=runs/dcl_r50 \
      --config=configs/dcl_r50.py:tfds:imagenet2012

With weighted positives (DCLW): --config.objective.variant=dclw

There is no official code; this is the recipe of lightly's benchmark, which is
SimCLR's for a small batch. Published there (lightly 1.5): 100 epochs, linear
probe 65.1 % top-1, DCLW 64.5 %, SimCLR 63.2 %, all with batch 256; but with the
two views' negatives in log-sums of their own, where ours, as the paper's, is
one. Measured here: nothing yet, no accelerator was at hand.
"""

from contrastive_jax import config as config_lib
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = config_lib.base()
  c.data.source = source
  c.data.interpolation = 'bilinear'
  c.data.mean, c.data.std = presets.IMAGENET_MEAN, presets.IMAGENET_STD
  c.augment.update(presets.SIMCLR)
  c.batch_size = 256
  c.epochs = 100
  c.encoder.zero_init_last_scale = False
  c.objective.name = 'simclr'
  c.objective.variant = 'dcl'
  c.objective.dclw_sigma = 0.5  # only of the variant 'dclw'
  c.objective.temperature = 0.1
  c.objective.loss_reduction = 'mean'
  c.objective.projector_layers = 2
  c.objective.projector_hidden_size = 0  # as wide as the encoder's output
  c.objective.projector_output_size = 128
  c.optimizer.scaling = 'sqrt'  # 0.075 x sqrt(256) = 1.2
  c.optimizer.base_learning_rate = 0.075
  c.optimizer.weight_decay = 1e-6
  c.optimizer.learning_rate_inside_momentum = False
  return c
