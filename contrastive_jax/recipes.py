"""What the configs of `configs/` start from: a config states what differs."""

import runpy
from collections.abc import Mapping
from typing import Any

from contrastive_jax import config as config_lib
from contrastive_jax import objectives
from contrastive_jax.config import Config, Error, packaged_config
from contrastive_jax.data import presets


def get_config(name: str, *source: str) -> Config:
  """Returns a config that comes with the package.

  Args:
    name: such as 'simclr_small'.
    *source: of the data; if not given, the config's own.

  Raises:
    Error: there is no such config.
  """
  path = packaged_config(name)
  if path is None:
    raise Error(f'there is no config {name!r} in the package')
  return runpy.run_path(str(path))['get_config'](*source)


def start(objective: str, source: str) -> Config:
  """Returns the defaults, with those of an objective.

  Args:
    objective: its name, or `package.module:function` of your own.
    source: of the data.
  """
  c = config_lib.base()
  c.data.source = source
  c.objective.name = objective
  c.objective.update(objectives.default_fields(objective))
  return c


def imagenet(objective: str, source: str, augment: Mapping[str, Any]) -> Config:
  """Returns the start of a recipe for ImageNet: ResNet-50, 224 pixels.

  Args:
    objective: its name.
    source: of the data.
    augment: of `presets`.
  """
  c = start(objective, source)
  c.data.mean, c.data.std = presets.IMAGENET
  _set_views(c, augment)
  return c


def small(
  objective: str,
  source: str,
  augment: Mapping[str, Any],
  cifar10: tuple[Any, Any] = ((), ()),
) -> Config:
  """Returns the start of a recipe for images up to 64 pixels: ResNet-18.

  Args:
    objective: its name.
    source: of the data.
    augment: of `presets`.
    cifar10: mean and standard deviation, if the source is CIFAR-10.
  """
  c = start(objective, source)
  c.data.image_size = 0  # the source's own, at most 64 pixels
  c.data.eval_crop = 1.0
  if source == 'tfds:cifar10':
    c.data.mean, c.data.std = cifar10
  _set_views(c, augment)
  c.encoder.name = 'resnet18'
  return c


def image_text(objective: str, source: str) -> Config:
  """Returns the start of a recipe for small images with texts.

  Ours, not published: ResNet-18 beside a small transformer that reads to the
  last token.

  Args:
    objective: its name.
    source: of the data.
  """
  c = small(objective, source, presets.CLIP_CROPS)
  c.augment.crop_scale = (0.5, 1.0)
  c.text_encoder.update(dict(name='text_tiny', causal=True, pool='last'))
  c.objective.projector_output_size = 128
  c.batch_size, c.epochs = 256, 30
  c.optimizer.name, c.optimizer.adam_b2 = 'adamw', 0.98
  c.optimizer.base_learning_rate = 1e-3
  c.optimizer.warmup_epochs = 1.0
  c.optimizer.weight_decay = 0.1
  return c


def solo_learn(
  objective: str, source: str, augment: Mapping[str, Any] | None = None
) -> Config:
  """Returns the start of solo-learn's recipes for CIFAR-10: 1,000 epochs.

  solo-learn's LARS has the trust coefficient 0.02 and never multiplies the
  learning rate by more than 1. Ours has no such bound, and the usual 0.001. Its
  stem for CIFAR pads by 2 where SimCLR's and ours pad by 1: 34 positions a side
  instead of 32.

  Args:
    objective: its name.
    source: of the data.
    augment: of `presets`; None: the asymmetric one.
  """
  c = small(
    objective,
    source,
    presets.SOLO_ASYMMETRIC if augment is None else augment,
    presets.CIFAR10,
  )
  c.batch_size, c.epochs = 256, 1000
  c.optimizer.learning_rate_inside_momentum = False
  return c


def _set_views(c: Config, augment: Mapping[str, Any]) -> None:
  c.augment.update(augment)
  # A recipe on torchvision resizes by PIL, which always averages, and starts
  # from He's kernels.
  if augment['crop_rule'] == 'torchvision':
    c.data.antialias = True
    c.encoder.kernel_init = 'fan_out'


def for_digits(c: Config) -> None:
  """Fits a recipe, in place, to 1,438 images of 8 pixels and to a CPU.

  Ours, not published. What is left, the heads and whatever belongs to the
  objective, is in the configs.

  Args:
    c: a whole config.
  """
  c.batch_size = 128
  c.epochs = 100
  c.encoder.width = 16
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 0.002
  c.optimizer.schedule = 'cosine'
  c.optimizer.warmup_epochs = 5.0
  c.optimizer.warmup_start = 0.0
  # One rule for all objectives, whose views are then alike.
  c.augment.crop_rule = 'torchvision'
  c.augment.crop_scale = (0.5, 1.0)
  c.augment.flip = 0.0  # a mirrored digit is no digit


def moco_v3_vit(c: Config) -> None:
  """Fits a config, in place, to MoCo v3's ViTs, whatever their size.

  AdamW, fixed positions, patches that are never trained (optimizer.frozen for
  as many epochs as there are), heads that end in a norm. Source: moco-v3
  vits.py, builder.py (MoCo_ViT), CONFIG.md.

  Args:
    c: a whole config.
  """
  c.encoder.positions, c.encoder.vit_init = 'sincos', 'xavier'
  c.objective.temperature = 0.2
  c.objective.projector_layers = 3
  c.objective.predictor_norm = True
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 1.5e-4
  c.optimizer.weight_decay = 0.1
  c.optimizer.decay_bias_and_norm = True  # one group of all parameters
  c.optimizer.frozen = ('encoder/patch_embed',)


def dino_vit(c: Config) -> None:
  """Fits a config, in place, to DINO's ViTs, whatever their size.

  Source: the defaults of dino main_dino.py.

  Args:
    c: a whole config.
  """
  c.encoder.drop_path = 0.1
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 5e-4
  c.optimizer.final_fraction = 1e-6 / 1e-3
  c.optimizer.weight_decay, c.optimizer.weight_decay_end = 0.04, 0.4
  c.optimizer.clip_tensor_norm = 3.0
  c.optimizer.frozen, c.optimizer.frozen_epochs = ('last_layer',), 1.0


def dinov2(c: Config) -> None:
  """Fits a config, in place, to DINOv2's ViTs, whatever their size.

  Source: dinov2/configs/ssl_default_config.yaml.

  Args:
    c: a whole config.
  """
  c.encoder.layer_scale = 1e-5
  c.optimizer.name = 'adamw'
  c.optimizer.scaling = 'sqrt'
  c.optimizer.base_learning_rate = 4e-3 / 1024**0.5
  c.optimizer.final_fraction = 1e-6 / 4e-3
  c.optimizer.weight_decay, c.optimizer.weight_decay_end = 0.04, 0.4
  c.optimizer.layer_decay, c.optimizer.patch_rate = 0.9, 0.2
  c.optimizer.clip_norm = 3.0
  c.optimizer.frozen, c.optimizer.frozen_epochs = ('*last_layer',), 1.0


def lejepa(c: Config) -> None:
  """Fits a config for ImageNet, in place, to LeJEPA's recipe of any encoder.

  Source: the README of galilai-group/lejepa; batch, epochs and warm-up, which
  it does not name, are ours.

  Args:
    c: a whole config.
  """
  c.batch_size, c.epochs = 512, 100
  c.encoder.dtype = 'bfloat16'
  c.optimizer.name = 'adamw'
  c.optimizer.scaling = 'sqrt'
  c.optimizer.base_learning_rate = 5e-4 / 512**0.5
  c.optimizer.final_fraction = 1e-3
  c.optimizer.warmup_epochs = 10.0


def mae(c: Config) -> None:
  """Fits a config, in place, to MAE's ViTs, whatever their size.

  Source: mae main_pretrain.py and PRETRAIN.md.

  Args:
    c: a whole config.
  """
  c.encoder.positions, c.encoder.vit_init = 'sincos', 'xavier'
  c.optimizer.name, c.optimizer.adam_b2 = 'adamw', 0.95
  c.optimizer.base_learning_rate = 1.5e-4
  c.optimizer.weight_decay = 0.05


def vit_for_digits(c: Config) -> None:
  """Fits a recipe of a ViT, in place, to 1,438 images of 8 pixels and a CPU.

  Ours, not published: four blocks, patches of 2 pixels.

  Args:
    c: a whole config.
  """
  c.batch_size, c.epochs = 128, 60
  c.encoder.depth = 4
  c.optimizer.base_learning_rate = 1e-3
  c.optimizer.warmup_epochs = 5.0
  c.augment.crop_rule = 'torchvision'
  c.augment.crop_scale = (0.5, 1.0)
  c.augment.flip = 0.0  # a mirrored digit is no digit
