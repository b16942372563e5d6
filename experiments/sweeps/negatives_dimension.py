"""Does a larger embedding want more negatives? MoCo's queue x projector size.

  python -m contrastive_jax.sweep --workdir=runs/negatives_dimension \
      --sweep=experiments/sweeps/negatives_dimension.py \
      --config=configs/moco_small.py:digits

16 settings x 3 seeds, equally many images. The batch is 32 for all, as a queue
is a multiple of the batch, and few negatives are to be tried, too (with
objective.symmetric, which adds twice as many keys a step, the least queue is
64). A queue longer than the training set (1,295 digits) holds an image's own
old keys as negatives.

experiments/theory/negatives_dimension.py says how many negatives an accuracy
needs as the dimension grows.
"""

from contrastive_jax.sweeping import axis, product, same_images

SEEDS = 3
_BATCH_SIZE = 32


def get_sweep(config):
  """Yields queue length x output size of the projector."""
  rows = _BATCH_SIZE * (2 if config.objective.symmetric else 1)
  return product(
    axis('objective.queue_size', [rows * n for n in (1, 4, 16, 64)]),
    axis('objective.projector_output_size', (4, 16, 64, 256)),
    same_images(config, (_BATCH_SIZE,)),
  )
