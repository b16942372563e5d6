"""DINO for images up to 64 pixels, as in lightly's table for CIFAR-10.

  python -m contrastive_jax.main --workdir=runs/dino_cifar10 \
      --config=configs/dino_small.py:tfds:cifar10

Published, documentation of lightly-ai/lightly (not by the authors of DINO):
ResNet-18, kNN (k 200, T 0.1, the best epoch) 84.0 % after 200 epochs of batch
128. Measured: README of this project.

lightly evaluates the student, gives each view a pass of its own and does not
freeze the last layer; here the teacher is evaluated, and the last layer frozen
for an epoch, as in the official code.
"""

from contrastive_jax import config as config_lib
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = config_lib.base()
  c.data.source = source
  c.data.image_size = 0  # the source's own, at most 64 pixels
  c.data.interpolation = 'bilinear'
  c.data.eval_crop = 1.0
  if source == 'tfds:cifar10':
    # ImageNet's, as lightly has it for CIFAR too.
    c.data.mean, c.data.std = presets.IMAGENET_MEAN, presets.IMAGENET_STD
  c.augment.update(presets.DINO)
  c.augment.local_crops = 0
  c.augment.blur = (0.0, 0.0)
  c.batch_size = 128
  c.epochs = 200
  c.encoder.name = 'resnet18'
  c.encoder.zero_init_last_scale = False
  c.objective.name = 'dino'
  c.objective.temperature = 0.1
  c.objective.teacher_temperature = 0.04
  c.objective.teacher_temperature_start = 0.04
  c.objective.teacher_temperature_epochs = 0
  c.objective.tau = 0.99
  c.objective.tau_end = 0.99
  c.objective.centre_momentum = 0.9
  c.objective.num_prototypes = 2048
  c.objective.projector_layers = 2
  c.objective.projector_hidden_size = 2048
  c.objective.projector_output_size = 256
  c.objective.projector_norm = True
  c.objective.norm_last_layer = True
  c.optimizer.name = 'sgd'
  c.optimizer.base_learning_rate = 0.12
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decay_bias_and_norm = True
  c.optimizer.frozen = ('last_layer',)
  c.optimizer.frozen_epochs = 1.0
  if source == 'digits':
    config_lib.for_digits(c)
    c.objective.num_prototypes = 1024
    c.objective.projector_hidden_size = 512
    c.optimizer.decay_bias_and_norm = False
    c.optimizer.clip_tensor_norm = 3.0
    c.optimizer.frozen_epochs = 30.0  # of 11 steps each
  return c
