"""SupCon on ImageNet, ResNet-50 (Khosla et al. 2020, arXiv 2004.11362).

  python -m contrastive_jax.main --workdir=runs/supcon_r50 \
      --config=configs/supcon_r50.py:tfds:imagenet2012

The recipe of the official TensorFlow code, google-research/google-research,
supcon/scripts/supcon_imagenet_resnet50.sh, with SimCLR's augmentation in place
of its AutoAugment, which there is not here. Published: 79.1 % top-1 of the
official PyTorch code (HobbitLong/SupContrast), which trains with a momentum
encoder and a queue instead. Measured here: nothing yet, no accelerator was at
hand.

Our head has a bias in its last layer where the official one has none.
"""

from contrastive_jax import config as config_lib
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = config_lib.base()
  c.data.source = source
  c.data.mean, c.data.std = presets.IMAGENET_MEAN, presets.IMAGENET_STD
  c.augment.update(presets.SIMCLR)
  c.batch_size = 6144
  c.epochs = 350
  c.objective.name = 'supcon'
  c.objective.temperature = 0.1
  c.objective.base_temperature = 1.0  # the loss is multiplied by T
  c.objective.normalize_features = True
  c.objective.projector_layers = 1
  c.objective.projector_hidden_size = 0  # only with more layers
  c.objective.projector_output_size = 128
  c.optimizer.base_learning_rate = 0.4
  c.optimizer.warmup_epochs = 12.0
  c.optimizer.weight_decay = 1e-3
  return c
