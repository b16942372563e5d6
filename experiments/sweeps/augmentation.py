"""Which augmentations carry it: crop, color and blur, alone and together?

  python -m contrastive_jax.sweep --workdir=runs/augmentation \
      --sweep=experiments/sweeps/augmentation.py \
      --config=configs/simclr_small.py:digits

7 settings x 3 seeds. What is on is as the config has it, or, where the config
has it off, as SimCLR; flip and solarize stay as they are. Gray images have no
colors: there 'color' is brightness and contrast. SimCLR (2002.05709, figure
5) finds crop and color the best pair, and no single one enough.
"""

import itertools

from contrastive_jax.data import presets

SEEDS = 3


def get_sweep(config):
  """Yields every choice of one, two and three of them."""
  views = len(config.augment.blur)
  off = {
    'crop': {'crop_scale': (1.0, 1.0), 'crop_ratio': (1.0, 1.0)},
    'color': {'jitter': 0.0, 'grayscale': 0.0},
    'blur': {'blur': (0.0,) * views},
  }
  simclr = presets.SIMCLR | {'blur': (0.5,) * views}
  on = {}
  for name, fields in off.items():
    own = {field: config.augment[field] for field in fields}
    on[name] = {field: simclr[field] for field in fields}
    if own != fields:
      on[name] = own
  for count in (1, 2, 3):
    for chosen in itertools.combinations(off, count):
      override = {'label': ' + '.join(chosen)}
      for name in off:
        fields = (on if name in chosen else off)[name]
        override.update({f'augment.{k}': v for k, v in fields.items()})
      yield override
