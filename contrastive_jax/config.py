"""Every field that a config may have, with its default and its unit.

An experiment in `configs/` starts from `base()` and changes what it needs.
Only primary values stand here: steps per epoch, learning rate and the like
follow from them in code, and are printed as the sum that they came from.
"""

import difflib
import importlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import ml_collections
from ml_collections import config_dict

# An ml_collections.ConfigDict. To a type checker its fields could be of any
# type that any field may have, so it is told nothing.
Config: TypeAlias = Any


class Error(ValueError):
  """What a user got wrong, in one sentence: config, data, or work folder.

  The commands print the sentence alone. Any other error is a mistake in the
  code, ours or the user's own, and keeps its traceback.
  """


class MissingError(Error, FileNotFoundError):
  """A file or a folder that is not there."""


class DivergedError(Error, FloatingPointError):
  """Loss or gradient are no longer finite."""


def base() -> Config:
  """Returns the defaults. The numbers are SimCLR's (methods: 2002.05709)."""
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.batch_size = 256  # images a step, over all devices
  # Images of a device that the encoder takes at a time; 0: all. Saves memory;
  # the gradient stays that of the whole batch. Batch norm has to be 'ghost'.
  c.microbatch = 0
  c.epochs = 100
  c.steps = config_dict.placeholder(int)  # overrides epochs
  # That training may take; chooses what a config leaves open (my_images.py).
  c.minutes = config_dict.placeholder(float)
  c.on_collapse = 'warn'  # or 'stop': a collapsed run ends with an error
  # Or 'stop': so ends a run whose features are worse than before its first step
  # (evaluation.every_epochs; 95 %, on the same images).
  c.on_worse = 'warn'
  # So long without a finished step, a run ends itself, with exit code 75, for a
  # scheduler to start it again (training/watchdog.py); 0: it waits for ever.
  c.watchdog_minutes = 30.0
  c.mapping = 'shard_map'  # or 'pmap': the same step, mapped the older way
  # 'zero': each device has its part of the optimizer's state and of moving
  # averages; the same numbers but for rounding.
  c.sharding = 'replicated'

  c.objective = ml_collections.ConfigDict()
  c.objective.name = 'simclr'  # a module of contrastive_jax.objectives

  c.encoder = ml_collections.ConfigDict(
    dict(
      # resnet18, 34, 50, 101, 152, 200; vit_tiny, small, base, large;
      # convnext_tiny, small, base; of text: text_tiny, mini, small, medium,
      # base, bert_tiny, mini, small, medium, base, minilm_l6, minilm_l12
      name='resnet50',
      # Of a ResNet.
      width=64,  # channels of the first stage; 128 is the papers' "2x"
      stem='auto',  # imagenet, cifar; auto: cifar up to 64 pixels
      norm='global',  # batch norm over the global batch, or 'ghost:32'
      dtype='float32',  # of the computation; parameters are float32
      zero_init_last_scale=True,
      kernel_init='fan_in',  # variance 1 / fan_in; or fan_out: 2 / fan_out
      # Of a ViT (models/vit.py).
      patch_size=0,  # pixels; 0: 16, 4 up to 64 pixels, 2 below 16
      pool='token',  # the class token, or 'mean' of the patches
      registers=0,  # tokens beside the class token
      depth=0,  # blocks; 0: as usual for the size
      heads=0,  # of the attention; 0: as usual for the size
      positions='learned',  # or 'sincos', fixed
      interpolation='dino',  # of positions: dino, dinov2_registers, timm
      pretrained_size=0,  # pixels that the positions are for; 0: the images'
      layer_scale=0.0,  # first factor of a branch; 0: none
      vit_init='trunc_normal',  # as DINO; or 'xavier', as MoCo v3
      # Of a ViT or a ConvNeXt.
      drop_path=0.0,  # probability at the last block, from 0 at the first
      drop_path_uniform=False,  # of a ViT: that of all blocks
      # Of text (models/text.py); pool may be 'last', too.
      dropout=0.1,  # probability
      causal=False,  # whether a token sees those before it alone
      # Of all of ours.
      remat='none',  # or 'blocks': compute again, and save memory
      # Weights to begin from: a file of torch.save, safetensors or npz, with
      # where it comes from, as dino:FILE, or without; or run:WORKDIR.
      init='',
      init_channels='refuse',  # of another number; or sum, repeat, mean
    )
  )

  c.data = ml_collections.ConfigDict(
    dict(
      # digits, folder:PATH, csv:FILE, pairs:FILE, tar:PATTERN, arrays:FILE,
      # idx:PATH, tfds:NAME, text:FILE
      source='digits',
      image_size=224,  # pixels
      interpolation='bicubic',  # or bilinear
      antialias=False,  # of what is made smaller: as PIL does, not TensorFlow
      mean=(),  # one a channel, of [0, 1] pixels; (): left as they are
      std=(),
      background=(1.0,),  # shows through alpha: a gray or RGB, 1 is white
      # Value that is white in 16-bit or float images; 0: 1 of floats, and of
      # 16 bits the largest of as many as are used (data/scaling.py).
      maximum=0.0,
      eval_crop=0.875,  # share of the shorter side that evaluation sees
      # Share of the training split that takes the place of the test split, to
      # choose by: it is not trained on, and test is not read.
      held_out=0.0,
    )
  )

  c.text = ml_collections.ConfigDict(
    dict(
      # A tokenizer.json; '': a byte-level BPE, fitted to the training data.
      tokenizer='',
      vocabulary=8192,  # most tokens of that
      max_length=32,  # tokens; what follows is left out
      # Of a sentence: 'same', itself twice, told apart by dropout alone;
      # 'pairs' or 'negatives', it and other columns; or 'all' that there are.
      views='all',
    )
  )

  # The second tower of clip and siglip; fields as of `encoder`.
  c.text_encoder = ml_collections.ConfigDict(
    dict(
      name='',  # text_tiny, mini, small, medium, base; bert_...; minilm_...
      pool='last',
      depth=0,
      heads=0,
      dropout=0.0,
      drop_path=0.0,
      causal=False,
      dtype='float32',
      remat='none',
      init='',
    )
  )

  c.augment = ml_collections.ConfigDict(
    dict(
      # In this order; a probability of 0 leaves one out.
      stages=('flip', 'jitter', 'grayscale', 'blur', 'solarize'),
      # How a random crop is drawn: torchvision's rule, or that of tensorflow
      # (SimCLR) or byol. See `data/crops.py`, RULES.
      crop_rule='tensorflow',
      crop_scale=(0.1, 1.0),  # share of the image's area
      crop_ratio=(3 / 4, 4 / 3),  # width / height
      flip=0.5,  # probability
      jitter=0.8,  # probability
      # What the three mean: torchvision's, or that of the official code of
      # simclr or byol. See `data/photometric.py`, FORMS.
      jitter_form='simclr',
      strength=1.0,  # multiplies the four below
      brightness=0.8,
      contrast=0.8,
      saturation=0.8,
      hue=0.2,
      grayscale=0.2,  # probability
      blur=(0.5, 0.5),  # probability, one a global view: this is their number
      blur_sigma=(0.1, 2.0),  # pixels
      solarize=(0.0, 0.0),  # probability, one a global view
      local_crops=0,  # smaller views that follow the global ones (multi-crop)
      local_size=96,  # pixels
      local_scale=(0.05, 0.14),  # share of the image's area
      local_blur=0.5,  # probability
      local_solarize=0.0,  # probability
      # Probability, after all stages: a random channel is 0, but not of gray.
      channel_drop=0.0,
    )
  )

  c.optimizer = ml_collections.ConfigDict(
    dict(
      name='lars',  # lars, larc (apex's, without clipping), sgd, adamw
      base_learning_rate=0.3,  # per 256 images (linear), per image (sqrt)
      scaling='linear',  # base x batch/256, or 'sqrt': base x sqrt(batch)
      warmup_epochs=10.0,
      warmup_start=0.0,  # share of the peak rate where the warm-up starts
      schedule='cosine',  # after the warm-up; or 'linear', 'step'
      final_fraction=0.0,  # share of the peak rate where the first two end
      milestones=(0.6, 0.8),  # shares of the run at which a step is x 0.1
      # Factor on the rate of biases and normalization (parameters of one
      # dimension or none). Barlow Twins: .0048/.2 = .024, but its official
      # gradient is 1/R of the true one, on R = 16 to 32 GPUs. LARS hides that
      # in weights only; with the true gradient, which is ours, the same update
      # takes .024/R (and, of the weights, R times the weight decay).
      bias_and_norm_rate=1.0,
      # Factors on the rate: of the whole encoder, as of one that comes with
      # weights; of each layer of it per layer that follows; of a ViT's patches.
      encoder_rate=1.0,
      layer_decay=1.0,
      patch_rate=1.0,
      # Entries of params, or patterns such as 'encoder/stem_*', ...
      constant_rate=(),  # ... that keep the peak rate
      frozen=(),  # ... that nothing touches ...
      frozen_epochs=0.0,  # ... in the first so many epochs
      momentum=0.9,
      adam_b2=0.999,  # AdamW's, of the second moment
      nesterov=False,
      weight_decay=1e-6,
      # What it goes to on half a cosine over the run; None: it stays.
      weight_decay_end=config_dict.placeholder(float),
      decay_bias_and_norm=False,  # LARS: also adapts them; LARC always does
      clip_tensor_norm=0.0,  # largest gradient norm of a tensor; 0: any
      clip_norm=0.0,  # ... and of all tensors together
      trust_coefficient=1e-3,
      learning_rate_inside_momentum=True,  # SimCLR's LARS; BYOL's: False
    )
  )

  c.checkpoint = ml_collections.ConfigDict(
    dict(
      every_steps=1000,
      keep=2,
      # The best one, too, in WORKDIR/best, of the reports that have it: knn,
      # probe, rankme (evaluation.every_epochs), loss; or none.
      best_by='none',
    )
  )
  c.log = ml_collections.ConfigDict(
    dict(
      every_steps=100,
      to='none',  # or wandb, mlflow: beside metrics.jsonl and TensorBoard
    )
  )

  c.evaluation = ml_collections.ConfigDict(
    dict(
      batch_size=256,  # images a device
      # While training: neighbors and a linear probe, on at most 4,096 training
      # and 2,048 test images, before the first step and every so many epochs
      # (at the next report); 0: never, but before and after `encoder.init`.
      every_epochs=0.0,
      knn_k=20,
      knn_temperature=0.07,
      labels_per_class=10,  # of the few-label probe
      baselines=True,  # raw pixels and the untrained encoder beside it
    )
  )
  return c


def check_keys(config: Config) -> None:
  """Refuses keys that nothing reads.

  Args:
    config: compared with `base()`; fields of `objective` belong to the
      objective, which checks them when it is made.

  Raises:
    ValueError: an unknown key, with the nearest known one.
  """
  known, found = set(flat(base().to_dict())), set(flat(config.to_dict()))
  for key in sorted(found - known):
    if not key.startswith('objective.'):
      raise Error(unknown_key(key, known))
  if missing := sorted(known - found):
    raise Error(f'the config has no {missing[0]}: start from base()')


def unknown_key(key: str, known: set[str]) -> str:
  """Returns the sentence that refuses `key`, and names a near one or those."""
  part, _, last = key.rpartition('.')
  beside = {
    name.rpartition('.')[2]: name
    for name in sorted(known)
    if name.rpartition('.')[0] == part
  }
  near = [beside[n] for n in difflib.get_close_matches(last, beside, n=1)]
  # A field that is elsewhere, or a part of the config that is misspelled.
  near += [name for name in sorted(known) if name.rpartition('.')[2] == last]
  near += difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.8)
  if near:
    return f'unknown config key {key!r}; did you mean {near[0]!r}?'
  where = f'those of {part} are' if part and beside else 'there are'
  return f'unknown config key {key!r}; {where} ' + ', '.join(
    beside.values() or sorted({name.partition('.')[0] for name in known})
  )


def flat(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Returns {'a.b': 1} of {'a': {'b': 1}}.

  Args:
    tree: nested dicts, such as `config.to_dict()` or a config.json.
    prefix: of all names.
  """
  fields = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      fields.update(flat(value, f'{prefix}{key}.'))
    else:
      fields[f'{prefix}{key}'] = value
  return fields


def found(
  name: str, field: str, package: str = '', names: Sequence[str] = ()
) -> Any:
  """Returns what a config field names.

  Args:
    name: `package.module:function` of the user's own, or one of `names`.
    field: of the config, for the sentence.
    package: whose modules `names` are.
    names: the modules there are.

  Returns:
    The function, or the module.

  Raises:
    ValueError: there is no such thing; one sentence. What an existing module
      raises while it is imported passes through.
  """
  module_name, colon, attribute = name.partition(':')
  if not colon:
    if name in names:
      return importlib.import_module(f'{package}.{name}')
    near = difflib.get_close_matches(name, names, n=1)
    hint = f'did you mean {near[0]!r}?' if near else f'known: {list(names)}'
    kind = field.split('.')[0]
    raise Error(
      f'there is no {kind} {name!r} ({field}); {hint} Your own is written '
      'package.module:function'
    )
  try:
    module = importlib.import_module(module_name)
  except ModuleNotFoundError as error:
    if error.name and module_name.startswith(error.name):
      raise Error(
        f'{field} is {name!r}, but there is no module {error.name!r} on the '
        'Python path'
      ) from error
    raise
  if not callable(function := getattr(module, attribute, None)):
    raise Error(
      f'{field} is {name!r}, but {module_name} has no function {attribute!r}'
    )
  return function


def packaged_config(name: str) -> pathlib.Path | None:
  """Returns the file of a config that comes with the package.

  Args:
    name: such as 'simclr_small'.

  Returns:
    The path; None if there is no such config.
  """
  package = pathlib.Path(__file__).parent
  # In a wheel they are a subpackage, in a checkout beside the package.
  for folder in (package / 'configs', package.parent / 'configs'):
    if (path := folder / f'{name}.py').is_file():
      return path
  return None
