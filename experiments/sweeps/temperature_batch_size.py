"""Does a small batch want another temperature? Both, with equally many images.

  python -m contrastive_jax.sweep --workdir=runs/temperature_batch_size \
      --sweep=experiments/sweeps/temperature_batch_size.py \
      --config=configs/simclr_small.py:digits

20 settings x 3 seeds. The learning rate follows the batch size as the config's
optimizer.scaling has it. SimCLR (2002.05709, appendix B) finds the same
temperature best for all batches if the training is long, and that a large batch
matters less the longer it is.
"""

from contrastive_jax.sweeping import axis, product, same_images

SEEDS = 3


def get_sweep(config):
  """Yields temperature x batch size."""
  return product(
    axis('objective.temperature', (0.05, 0.1, 0.2, 0.5, 1.0)),
    same_images(config, (32, 64, 128, 256)),
  )
