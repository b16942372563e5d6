"""What does a longer training buy?

  python -m contrastive_jax.sweep --workdir=runs/epochs \
      --sweep=experiments/sweeps/epochs.py \
      --config=configs/simclr_small.py:digits

4 settings x 3 seeds: an eighth, a quarter and half of the config's epochs (or
steps, if it has these), and all of them; each with a schedule of its own, that
ends with the run. The warm-up is as long in all, but where it is longer than
the run. SimCLR (2002.05709, figure 9) still gains at 1,000 epochs of ImageNet.
"""

from contrastive_jax.sweeping import axis

SEEDS = 3


def get_sweep(config):
  """Yields the length of the run."""
  field = 'epochs' if config.steps is None else 'steps'
  return axis(field, [max(1, config[field] // part) for part in (8, 4, 2, 1)])
