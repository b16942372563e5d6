"""NNCLR for images up to 64 pixels, after solo-learn's CIFAR-10 recipe.

  python -m contrastive_jax.main --workdir=runs/nnclr_cifar10 \
      --config=configs/nnclr_small.py:tfds:cifar10

Published, README of vturrisi/solo-learn (not by the authors of NNCLR):
ResNet-18, 1,000 epochs, 91.88 % with its online linear probe. Measured: README
of this project.
"""

from contrastive_jax import recipes


def get_config(source='digits'):
  c = recipes.solo_learn('nnclr', source)
  c.objective.temperature = 0.2
  c.objective.queue_size = 65_536
  c.optimizer.base_learning_rate = 0.4
  c.optimizer.weight_decay = 1e-5
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.queue_size = 1024
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 128
    c.objective.predictor_hidden_size = 512
  return c
