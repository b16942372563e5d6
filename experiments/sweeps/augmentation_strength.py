"""How strong should the color jitter be?

  python -m contrastive_jax.sweep --workdir=runs/augmentation_strength \
      --sweep=experiments/sweeps/augmentation_strength.py \
      --config=configs/simclr_small.py:digits

6 settings x 3 seeds. The strength multiplies brightness, contrast, saturation
and hue; 0 leaves the jitter out. SimCLR (2002.05709, table 1) finds that its
encoder gains from more than a supervised one can use: 1 is its default, on
CIFAR-10 0.5.
"""

from contrastive_jax.sweeping import axis

SEEDS = 3


def get_sweep(config):
  """Yields strengths."""
  del config
  return axis('augment.strength', (0.0, 0.25, 0.5, 1.0, 1.5, 2.0))
