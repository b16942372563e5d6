"""Self-supervised contrastive learning in JAX.

  import contrastive_jax as cj

  cj.losses.nt_xent(z_a, z_b, temperature=0.1)
  config = cj.get_config('simclr_small')
  source = cj.from_arrays(images, labels)
  cj.pretrain(config, workdir, source=source)
  cj.load_encoder(workdir, source=source)(images)
  cj.evaluate(workdir, ['knn', 'linear'], source=source)

What is named here is imported at its first use: the import alone is quick.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = '0.1.0'

# Before anything imports TensorFlow: its greetings would bury ours.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

if TYPE_CHECKING:
  from contrastive_jax import losses, recipes
  from contrastive_jax.data.split import source_from_arrays as from_arrays
  from contrastive_jax.evaluation.encoder import load_encoder
  from contrastive_jax.evaluation.run import evaluate
  from contrastive_jax.recipes import get_config
  from contrastive_jax.train import pretrain

# Name here: module, and the name there (None: the module itself).
_LAZY = {
  'get_config': ('recipes', 'get_config'),
  'evaluate': ('evaluation.run', 'evaluate'),
  'from_arrays': ('data.split', 'source_from_arrays'),
  'load_encoder': ('evaluation.encoder', 'load_encoder'),
  'losses': ('losses', None),
  'pretrain': ('train', 'pretrain'),
  'recipes': ('recipes', None),
}
__all__ = [
  'evaluate',
  'from_arrays',
  'get_config',
  'load_encoder',
  'losses',
  'pretrain',
  'recipes',
]


def __getattr__(name: str) -> Any:
  if name not in _LAZY:
    raise AttributeError(f'contrastive_jax has no attribute {name!r}')
  module, attribute = _LAZY[name]
  found = importlib.import_module(f'{__name__}.{module}')
  return found if attribute is None else getattr(found, attribute)


def __dir__() -> list[str]:
  return sorted([*globals(), *_LAZY])
