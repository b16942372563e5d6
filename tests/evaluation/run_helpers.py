"""What tests look at of a finished run."""

from contrastive_jax.evaluation import encoder
from contrastive_jax.weights import towers


def arrays_of(workdir):
  """Parameters and statistics of its encoder, by name."""
  return towers.arrays_of(*encoder.load(workdir))
