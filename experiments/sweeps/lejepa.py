"""Does LeJEPA's loss tell, without labels, which run is the better one?

  python -m contrastive_jax.sweep --workdir=runs/lejepa \
      --sweep=experiments/sweeps/lejepa.py \
      --config=configs/lejepa_small.py:digits
  python -m experiments.theory.label_free --output=runs/label_free_lejepa \
      --sweep=runs/lejepa

36 settings, one seed: lambda x width of the encoder x epochs. Its authors claim
a rank correlation of 94 % (MINIMAL.md of galilai-group/lejepa).
"""

from contrastive_jax.sweeping import axis, product

SEEDS = 1


def get_sweep(config):
  """Yields lambda x width x epochs."""
  del config
  return product(
    axis('objective.sigreg_weight', (0.01, 0.03, 0.1, 0.3)),
    axis('encoder.width', (4, 8, 16)),
    axis('epochs', (12, 35, 100)),
  )
