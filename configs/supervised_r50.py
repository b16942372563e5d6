"""The supervised baseline on ImageNet, ResNet-50.

The recipe of Goyal et al. 2017 (arXiv 1706.02677), section 5.1.

  python -m contrastive_jax.main --workdir=runs/supervised_r50 \
      --config=configs/supervised_r50.py:tfds:imagenet2012

Crops and flips alone, as published (there with AlexNet's shift of colors,
which there is not here). To compare at equal augmentation, take another
preset's probabilities, as `supervised_small.py` does. The accuracy reported at
the end is that of a linear probe, as for all objectives; the classifier's own,
on augmented training images, is the metric `accuracy`. Measured here: nothing
yet.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='tfds:imagenet2012'):
  c = recipes.imagenet('supervised', source, presets.SUPERVISED)
  c.batch_size, c.epochs = 256, 90
  c.data.interpolation = 'bilinear'
  c.optimizer.name = 'sgd'
  c.optimizer.nesterov = True
  c.optimizer.base_learning_rate = 0.1
  c.optimizer.warmup_epochs = 5.0
  c.optimizer.schedule = 'step'
  c.optimizer.milestones = (1 / 3, 2 / 3, 8 / 9)  # epochs 30, 60 and 80
  c.optimizer.weight_decay = 1e-4
  return c
