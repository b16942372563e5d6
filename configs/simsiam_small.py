"""SimSiam for images up to 64 pixels (Chen & He 2020, arXiv 2011.10566, D).

  python -m contrastive_jax.main --workdir=runs/simsiam_cifar10 \
      --config=configs/simsiam_small.py:tfds:cifar10

Published: CIFAR-10, ResNet-18, 800 epochs of batch 512: linear 91.8 %, kNN near
90 % (appendix D of the paper, as quoted by others). Measured:
experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small(
    'simsiam', source, presets.SIMSIAM_CIFAR, cifar10=presets.CIFAR10
  )
  c.batch_size, c.epochs = 512, 800
  c.data.interpolation = 'bilinear'
  c.objective.projector_layers = 2
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.03
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decay_bias_and_norm = True
  c.optimizer.constant_rate = ('predictor',)
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 512
    c.objective.predictor_hidden_size = 128
  return c
