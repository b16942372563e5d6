"""Do more negatives help by themselves? MoCo's queue, apart from the batch.

  python -m contrastive_jax.sweep --workdir=runs/negatives \
      --sweep=experiments/sweeps/negatives.py \
      --config=configs/moco_small.py:digits

10 settings x 3 seeds, equally many images. The queue's length is the number of
negatives; the batch changes the steps and the learning rate, and how old the
queue's oldest keys are (length / batch, in steps). A queue longer than the
training set (1,295 digits) holds an image's own old keys as negatives. MoCo
(1911.05722, figure 3) gains with every step up to 65,536 keys on ImageNet.
"""

from contrastive_jax.sweeping import axis, product, same_images

SEEDS = 3


def get_sweep(config):
  """Yields queue length x batch size."""
  return product(
    axis('objective.queue_size', (256, 512, 1024, 2048, 4096)),
    same_images(config, (64, 256)),
  )
