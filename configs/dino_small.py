"""DINO for images up to 64 pixels, as in lightly's table for CIFAR-10.

  python -m contrastive_jax.main --workdir=runs/dino_cifar10 \
      --config=configs/dino_small.py:tfds:cifar10

Published, documentation of lightly-ai/lightly (not by the authors of DINO):
ResNet-18, kNN (k 200, T 0.1, the best epoch) 84.0 % after 200 epochs of batch
128. Measured: experiments/README.md.

lightly evaluates the student, gives each view a pass of its own and does not
freeze the last layer; here the teacher is evaluated, and the last layer frozen
for an epoch, as in the official code.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  # ImageNet's, as lightly has it for CIFAR too.
  c = recipes.small('dino', source, presets.DINO, cifar10=presets.IMAGENET)
  c.batch_size, c.epochs = 128, 200
  c.data.interpolation = 'bilinear'
  c.augment.local_crops = 0
  c.augment.blur = (0.0, 0.0)
  c.encoder.zero_init_last_scale = False
  c.objective.tau = 0.99
  c.objective.tau_end = 0.99
  c.objective.num_prototypes = 2048
  c.objective.projector_layers = 2
  c.objective.projector_norm = True
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.12
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decay_bias_and_norm = True
  c.optimizer.frozen = ('last_layer',)
  c.optimizer.frozen_epochs = 1.0
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.num_prototypes = 1024
    c.objective.projector_hidden_size = 512
    c.optimizer.decay_bias_and_norm = False
    c.optimizer.clip_tensor_norm = 3.0
    c.optimizer.frozen_epochs = 30.0  # of 11 steps each
  return c
