"""SupCon on ImageNet, ResNet-50 (Khosla et al. 2020, arXiv 2004.11362).

  python -m contrastive_jax.main --workdir=runs/supcon_r50 \
      --config=configs/supcon_r50.py:tfds:imagenet2012

The recipe of the official TensorFlow code, google-research/google-research,
supcon/scripts/supcon_imagenet_resnet50.sh, with SimCLR's augmentation in place
of its AutoAugment, which there is not here. Published: 79.1 % top-1 of the
official PyTorch code (HobbitLong/SupContrast), which trains with a momentum
encoder and a queue instead. Measured here: nothing yet.

Our head has a bias in its last layer where the official one has none.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('supcon', source, presets.SIMCLR)
  c.batch_size, c.epochs = 6144, 350
  c.optimizer.base_learning_rate = 0.4
  c.optimizer.warmup_epochs = 12.0
  c.optimizer.weight_decay = 1e-3
  return c
