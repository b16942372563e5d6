"""How wide and how deep must the projector be?

  python -m contrastive_jax.sweep --workdir=runs/projection \
      --sweep=experiments/sweeps/projection.py \
      --config=configs/simclr_small.py:digits

12 settings x 3 seeds: the outputs, which the loss compares, and the layers. The
score is of the encoder below. SimCLR (2002.05709, figure 8) finds two layers
better than one, and that the size of the output matters little.
"""

from contrastive_jax.sweeping import axis, product

SEEDS = 3


def get_sweep(config):
  """Yields output size x layers."""
  del config
  return product(
    axis('objective.projector_output_size', (8, 32, 128, 512)),
    axis('objective.projector_layers', (1, 2, 3)),
  )
