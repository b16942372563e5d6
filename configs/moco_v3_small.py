"""MoCo v3 for images up to 64 pixels, after solo-learn's CIFAR-10 recipe.

  python -m contrastive_jax.main --workdir=runs/moco_v3_cifar10 \
      --config=configs/moco_v3_small.py:tfds:cifar10

Published, README of vturrisi/solo-learn (not by the authors of MoCo v3):
ResNet-18, 1,000 epochs, 93.10 % with its online linear probe. Measured: README
of this project.
"""

from contrastive_jax import recipes


def get_config(source='digits'):
  c = recipes.solo_learn('moco_v3', source)
  c.objective.temperature = 0.2
  c.optimizer.base_learning_rate = 0.3
  c.optimizer.weight_decay = 1e-6
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 128
    c.objective.predictor_hidden_size = 512
  return c
