"""VICReg for images up to 64 pixels, after solo-learn's recipe for CIFAR-10.

  python -m contrastive_jax.main --workdir=runs/vicreg_cifar10 \
      --config=configs/vicreg_small.py:tfds:cifar10

Published, README of vturrisi/solo-learn (not by the authors of VICReg):
ResNet-18, 1,000 epochs, 92.07 % with its online linear probe. Measured: README
of this project.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.solo_learn('vicreg', source, presets.SOLO_VICREG)
  c.objective.variance_form = 'paper'  # solo-learn's
  c.objective.projector_hidden_size = 2048
  c.objective.projector_output_size = 2048
  c.optimizer.base_learning_rate = 0.3
  c.optimizer.weight_decay = 1e-4
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 512
  return c
