"""VICRegL for images up to 64 pixels.

  python -m contrastive_jax.main --workdir=runs/vicregl_digits \
      --config=configs/vicregl_small.py

Ours, not published: the recipe of `vicreg_small`, of whose 2,048 dimensions the
views keep all and places have 256. Measured: experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.solo_learn('vicregl', source, presets.SOLO_VICREG)
  c.objective.projector_hidden_size = 2048
  c.objective.projector_output_size = 2048
  c.objective.map_projector_size = 256
  c.optimizer.base_learning_rate = 0.3
  c.optimizer.weight_decay = 1e-4
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 512
    c.objective.map_projector_size = 64
  return c
