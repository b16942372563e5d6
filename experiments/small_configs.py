"""Every configs/*_small.py by its objective: what comparisons go through."""

import atexit
import functools
import importlib
import pathlib
import tempfile

from contrastive_jax.config import Config
from experiments.data import digits, sentences

FOLDER = pathlib.Path(__file__).parents[1] / 'configs'
_ALL = sorted(
  path.stem.removesuffix('_small') for path in FOLDER.glob('*_small.py')
)
TEXTS = ['simcse']
PAIRS = ['clip', 'siglip']
NAMES = [n for n in _ALL if not n.endswith('_vit') and n not in TEXTS + PAIRS]
VITS = [name for name in _ALL if name.endswith('_vit')]
_LOCAL_CROPS = {'augment.local_crops': 2, 'augment.local_size': 4}
# Options that give an objective another state or other passes: what holds for
# the configs is to hold for these. Sizes are of digits and 64 images a batch.
OPTIONS = {
  'swav, queue': ('swav', {'objective.queue_size': 192}),
  'swav, local crops': ('swav', _LOCAL_CROPS),
  'dino, local crops': (
    'dino',
    _LOCAL_CROPS
    | {
      'objective.norm_last_layer': False,
    },
  ),
  'simclr, local crops': ('simclr', _LOCAL_CROPS),
  'byol, local crops': ('byol', _LOCAL_CROPS),
  'dclw': ('dcl', {'objective.variant': 'dclw'}),
  'moco, symmetric': (
    'moco',
    {'objective.symmetric': True, 'objective.queue_size': 384},
  ),
  'dinov2, sinkhorn': (
    'dinov2',
    {
      'objective.teacher': 'sinkhorn',
      'objective.masked_crops': 2,
      'objective.separate_heads': True,
    },
  ),
  'dinov2, local crops': ('dinov2', _LOCAL_CROPS),
  'lejepa, flattened': (
    'lejepa',
    _LOCAL_CROPS | {'objective.flattened': True},
  ),
  'instance_discrimination, NCE': (
    'instance_discrimination',
    {'objective.negatives': 50, 'objective.temperature': 0.5},
  ),
  'vicregl, local crops': ('vicregl', _LOCAL_CROPS),
  'vicregl, ConvNeXt': (
    'vicregl',
    {
      'encoder.name': '_convnext_micro',
      'encoder.drop_path': 0.2,
      'objective.projector_norm': 'layer',
    },
  ),
  'dinov2, KoLeo in groups': ('dinov2', {'objective.koleo_group': 8}),
  'simcse, pairs': ('simcse', {'text.views': 'pairs', 'encoder.dropout': 0.0}),
  'simcse, hard negatives': (
    'simcse',
    {'text.views': 'negatives', 'objective.hard_negative_weight': 0.5},
  ),
}


def is_vit(config: Config) -> bool:
  """Returns whether a config is that of a ViT."""
  return config.encoder.name.startswith(('vit', '_vit'))


@functools.cache
def text_source() -> str:
  """Returns a source of 320 sentences; it is gone when Python ends."""
  folder = tempfile.TemporaryDirectory()
  atexit.register(folder.cleanup)
  path = pathlib.Path(folder.name) / 'sentences.csv'
  sentences.main(['', f'--output={path}'])
  return f'csv:{path}'


@functools.cache
def pairs_source() -> str:
  """Returns a source of 320 digits with a sentence each, likewise."""
  folder = tempfile.TemporaryDirectory()
  atexit.register(folder.cleanup)
  return f'csv:{digits.write(pathlib.Path(folder.name), 320)}'


def load(name: str, source: str | None = None) -> Config:
  """Returns the config of configs/<name>_small.py for a data source.

  Args:
    name: of the objective, or the VITs.
    source: None: digits, sentences, or digits with sentences.
  """
  if source is None:
    source = text_source() if name in TEXTS else 'digits'
    source = pairs_source() if name in PAIRS else source
  config = importlib.import_module(f'configs.{name}_small').get_config(source)
  if name in PAIRS and source == pairs_source():
    config.data.image_size = 8  # a table does not say how large its images are
  return config


def tiny_encoder(config: Config) -> str:
  """Returns the name of the smallest encoder of the same family."""
  family = config.encoder.name.partition('_')[0]
  return {'vit': '_vit_micro', 'text': '_text_micro'}.get(family, '_tiny')


def tiny(name: str) -> Config:
  """Returns that of digits, with two blocks and 64 images a batch."""
  config = load(name)
  config.encoder.name = tiny_encoder(config)
  config.encoder.width = 8
  if config.text_encoder.name:
    config.text_encoder.name = '_text_micro'
  config.encoder.depth = 0
  config.batch_size = 64
  return config


def all_tiny() -> dict[str, Config]:
  """Returns that of every config, and of every option."""
  configs = {name: tiny(name) for name in [*NAMES, *VITS, *TEXTS, *PAIRS]}
  for label, (name, overrides) in OPTIONS.items():
    configs[label] = tiny(name)
    configs[label].update_from_flattened_dict(overrides)
  return configs
