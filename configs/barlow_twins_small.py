"""Barlow Twins for images up to 64 pixels, after solo-learn's CIFAR-10 recipe.

  python -m contrastive_jax.main --workdir=runs/barlow_twins_cifar10 \
      --config=configs/barlow_twins_small.py:tfds:cifar10

Published, README of vturrisi/solo-learn (not by the authors of Barlow Twins):
ResNet-18, 1,000 epochs, 92.10 % with its online linear probe. Measured: README
of this project.
"""

from contrastive_jax import recipes


def get_config(source='digits'):
  c = recipes.solo_learn('barlow_twins', source)
  c.objective.loss_scale = 0.1
  c.objective.projector_hidden_size = 2048
  c.objective.projector_output_size = 2048
  c.optimizer.base_learning_rate = 0.3
  c.optimizer.weight_decay = 1e-4
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 512
  return c
