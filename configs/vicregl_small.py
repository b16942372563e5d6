"""VICRegL for images up to 64 pixels.

  python -m contrastive_jax.main --workdir=runs/vicregl_digits \
      --config=configs/vicregl_small.py

Ours, not published: the recipe of `vicreg_small`, of whose 2,048 dimensions the
views keep all and places have 256; of 16 places as many are matched as of the
paper's 49. Digits are drawn at 16 pixels: of 8 the map would be a single place.
Measured: experiments/README.md.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.solo_learn('vicregl', source, presets.SOLO_VICREG)
  c.objective.projector_hidden_size = 2048
  c.objective.projector_output_size = 2048
  c.objective.map_projector_size = 256
  c.objective.matches, c.objective.matches_back = 6, 2
  c.optimizer.base_learning_rate = 0.3
  c.optimizer.weight_decay = 1e-4
  if source == 'digits':
    recipes.for_digits(c)
    c.data.image_size = 16
    c.objective.matches, c.objective.matches_back = 2, 1
    c.objective.projector_hidden_size = 512
    c.objective.projector_output_size = 512
    c.objective.map_projector_size = 64
  return c
