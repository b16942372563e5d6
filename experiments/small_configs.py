"""Every configs/*_small.py by its objective: what comparisons go through."""

import importlib
import pathlib

from contrastive_jax.config import Config

FOLDER = pathlib.Path(__file__).parents[1] / 'configs'
NAMES = sorted(
  path.stem.removesuffix('_small') for path in FOLDER.glob('*_small.py')
)


def load(name: str, source: str = 'digits') -> Config:
  """Returns the config of configs/<name>_small.py for a data source."""
  return importlib.import_module(f'configs.{name}_small').get_config(source)


def tiny(name: str) -> Config:
  """Returns that of digits, with two residual blocks and 64 images a batch."""
  config = load(name)
  config.encoder.name = '_tiny'
  config.encoder.width = 8
  config.batch_size = 64
  return config
