"""MoCo for images up to 64 pixels, as in the official CIFAR-10 notebook.

  python -m contrastive_jax.main --workdir=runs/moco_cifar10 \
      --config=configs/moco_small.py:tfds:cifar10

Published (facebookresearch/moco, branch colab-notebook): ResNet-18, kNN (k 200,
on the 128 outputs of the projector) 82.6, 86.3, 88.7 % after 200, 400, 800
epochs; with symmetric=True 85.3, 88.5, 89.7 %, of which the last has 90.7 %
linear. Measured: experiments/README.md.

The official cosine moves once an epoch, ours every step.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.small(
    'moco', source, presets.MOCO_CIFAR, cifar10=presets.CIFAR10_NARROW
  )
  c.batch_size, c.epochs = 512, 200
  c.data.interpolation = 'bilinear'
  c.encoder.norm = 'ghost:64'  # the notebook's 8 groups
  c.encoder.zero_init_last_scale = False
  c.objective.temperature = 0.1
  c.objective.queue_size = 4096
  c.objective.tau = 0.99
  c.objective.projector_layers = 1
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.03  # x 512/256 = the notebook's 0.06
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decay_bias_and_norm = True
  if source == 'digits':
    recipes.for_digits(c)
    c.encoder.norm = 'ghost:16'  # 8 groups again
    c.objective.queue_size = 1024
  return c
