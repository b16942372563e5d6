"""BYOL for images up to 64 pixels, after solo-learn's recipe for CIFAR-10.

  python -m contrastive_jax.main --workdir=runs/byol_cifar10 \
      --config=configs/byol_small.py:tfds:cifar10

Published, README of vturrisi/solo-learn (not by the authors of BYOL):
ResNet-18, 1,000 epochs, 92.58 % with its online linear probe. Measured: README
of this project.
"""

from contrastive_jax import recipes


def get_config(source='digits'):
  c = recipes.solo_learn('byol', source)
  c.objective.tau = 0.99
  c.objective.target_init = 'same'
  c.optimizer.base_learning_rate = 1.0
  c.optimizer.weight_decay = 1e-5
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 128
    c.objective.predictor_hidden_size = 512
  return c
