"""Temperature and dropout of SimCSE: which of the two does more?

  python -m contrastive_jax.sweep --workdir=runs/sweep_of_simcse \
      --sweep=experiments/sweeps/simcse.py \
      --config=configs/simcse_small.py:csv:wordnet.csv

20 settings x 3 seeds. Without dropout the two views of a sentence are one. The
paper (2104.08821, tables 2 and D.1) has 0.05 and BERT's 0.1 as the best, and
loses 5 points without dropout.
"""

from contrastive_jax.sweeping import axis, product

SEEDS = 3


def get_sweep(config):
  """Yields temperature x dropout."""
  del config
  return product(
    axis('objective.temperature', (0.01, 0.05, 0.1, 0.2)),
    axis('encoder.dropout', (0.0, 0.05, 0.1, 0.2, 0.4)),
  )
