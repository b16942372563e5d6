"""DCL on ImageNet, ResNet-50 (Yeh et al. 2021, arXiv 2110.06848).

SimCLR without the positive in the denominator.

  python -m contrastive_jax.main --workdir=runs/dcl_r50 \
      --config=configs/dcl_r50.py:tfds:imagenet2012

With weighted positives (DCLW): --config.objective.variant=dclw

There is no official code; this is the recipe of lightly's benchmark, which is
SimCLR's for a small batch. Published there (lightly 1.5): 100 epochs, linear
probe 65.1 % top-1, DCLW 64.5 %, SimCLR 63.2 %, all with batch 256; but with the
two views' negatives in log-sums of their own, where ours, as the paper's, is
one. Measured here: nothing yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('simclr', source, presets.SIMCLR)
  c.batch_size, c.epochs = 256, 100
  c.data.interpolation = 'bilinear'
  c.encoder.zero_init_last_scale = False
  c.objective.variant = 'dcl'
  c.objective.loss_reduction = 'mean'
  c.optimizer.scaling = 'sqrt'  # 0.075 x sqrt(256) = 1.2
  c.optimizer.base_learning_rate = 0.075
  c.optimizer.weight_decay = 1e-6
  c.optimizer.learning_rate_inside_momentum = False
  return c
