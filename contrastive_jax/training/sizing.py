"""What a config leaves open, chosen for the images, the devices and a time.

The rules are ours, for people who have a folder of images and ask which
encoder, which batch and how long. Each choice is said with its reason, and a
field that is set is left as it is.
"""

import contextlib
import os
from typing import Any, NamedTuple

import jax
import numpy as np

from contrastive_jax.config import Config, Error
from contrastive_jax.data.split import Split
from contrastive_jax.data.tensorflow_host import tf
from contrastive_jax.training.progress import duration

# Fields that may be None, until this module fills them in.
OPEN = (
  'data.image_size',
  'encoder.name',
  'encoder.width',
  'batch_size',
  'epochs',
  'optimizer.name',
  'optimizer.base_learning_rate',
  'optimizer.warmup_epochs',
)

# What is worth training: so many passes over the images, of many images fewer
# passes; and the passes after which more add little.
_PASSES, _IMAGES, _MOST_PASSES = 100, 5_000_000, 1000
_WIDTHS = (64, 32, 16)
_SIDES = (224, 192, 160, 128, 96)  # of images that are not smaller ...
_SMALL_SIDES = (64, 48, 32)  # ... and of others
_RESNET50_FROM = 20_000  # images; of fewer it learns no more
_BATCHES_AN_EPOCH = 10  # at least
_LARGEST_BATCH = {'cpu': 256}
_LARGEST_BATCH_ELSEWHERE = 1024
_SMALLEST_BATCH = 32
_LARS_FROM = 512  # images a batch
_RATES = {'lars': 0.3, 'larc': 0.3, 'adamw': 0.001, 'sgd': 0.03}

# Multiplications and additions of a forward pass, of an image of 224 pixels at
# width 64 (torchvision's documentation), and bytes that the backward pass keeps
# of it: three float32 arrays (convolution, norm, activation) a layer. What is
# not listed is taken to be like a ResNet-50.
_OPERATIONS = {'resnet18': 1.81e9, 'resnet34': 3.66e9, 'resnet50': 4.09e9}
_BYTES = {'resnet18': 30e6, 'resnet34': 45e6, 'resnet50': 130e6}
# CIFAR's stem, which images up to 64 pixels get, keeps 16 times the positions.
_CIFAR_STEM, _CIFAR_STEM_UP_TO = 16, 64
# Of these operations a second, in training, by a device: one core of a CPU,
# measured (experiments/README.md). Nothing has run on the others: a guess on
# the low side.
_SPEED = {'cpu': 20e9, 'gpu': 3e12, 'tpu': 6e12}
_PIXELS_A_SECOND = {'cpu': 5e6}  # crops and colors, where they are slow
_MEMORY_SHARE = 0.5  # what the activations may take
_LOOKED_AT = 64  # images, for the typical side


class Devices(NamedTuple):
  """What a run has: 'cpu', 'gpu' or 'tpu', how many, bytes of memory each."""

  kind: str
  count: int
  memory: float


class _Network(NamedTuple):
  """An encoder at an image size."""

  name: str
  width: int
  side: int

  def _positions(self) -> float:
    stem = _CIFAR_STEM if self.side <= _CIFAR_STEM_UP_TO else 1
    return stem * (self.side / 224) ** 2

  def seconds(self, devices: Devices) -> float:
    """Returns what training takes for one view, forward and backward."""
    operations = (
      _OPERATIONS.get(self.name, _OPERATIONS['resnet50']) * self._positions()
    )
    operations *= (self.width / 64) ** 2
    seconds = 3 * operations / _SPEED.get(devices.kind, _SPEED['gpu'])
    seconds += self.side**2 / _PIXELS_A_SECOND.get(devices.kind, np.inf)
    return seconds / devices.count

  def bytes(self) -> float:
    """Returns the memory that one view takes until its backward pass."""
    return (
      _BYTES.get(self.name, _BYTES['resnet50'])
      * self._positions()
      * self.width
      / 64
    )


def devices_of(mesh: jax.sharding.Mesh) -> Devices:
  """Returns what there is to choose for."""
  kind = mesh.devices.flat[0].platform
  if kind == 'cpu':
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    return Devices(kind, mesh.size, memory / len(jax.local_devices()))
  statistics = jax.local_devices()[0].memory_stats() or {}
  return Devices(kind, mesh.size, statistics.get('bytes_limit', 16e9))


def is_open(config: Config) -> bool:
  """Returns whether a config leaves something to be chosen."""
  return any(_get(config, field) is None for field in OPEN)


def choose(config: Config, split: Split, devices: Devices) -> tuple[str, ...]:
  """Fills in, in place, what a config leaves open.

  Args:
    config: fields of `OPEN` that are None are chosen; `minutes` is the time
      that training may take.
    split: that is trained on.
    devices: that there are.

  Returns:
    A line a choice, with its reason.

  Raises:
    ValueError: `minutes` is missing or not above 0.
  """
  if config.minutes is None or config.minutes <= 0:
    raise Error(
      f'config.minutes is {config.minutes}: the config leaves open what '
      'follows from the time that training may take'
    )
  if config.data.image_size == 0:  # elsewhere "the source's own, at most 64"
    config.data.image_size = None
  notes = []
  # In this order: each follows from the choices before it, or from what the
  # user set in their place.
  for rule in (
    _choose_network,
    _choose_batch,
    _choose_epochs,
    _choose_optimizer,
  ):
    choices, reason = rule(config, split, devices)
    choices = {f: v for f, v in choices.items() if _get(config, f) is None}
    if choices:
      config.update_from_flattened_dict(choices)
      shown = ', '.join(f'{field}={value}' for field, value in choices.items())
      notes.append(f'{shown}: {reason}')
  return tuple(notes)


_Choices = tuple[dict[str, Any], str]


def _choose_network(config: Config, split: Split, devices: Devices) -> _Choices:
  """As much computation an image as leaves time for enough passes."""
  typical = _typical_side(split)
  sides = [s for s in _SIDES if s <= typical]
  sides = sides or [s for s in _SMALL_SIDES if s <= typical] or [typical]
  small = devices.kind == 'cpu' or split.size < _RESNET50_FROM
  names = ['resnet18'] if small else ['resnet18', 'resnet50']
  # Weights of others are of the full width.
  widths = _WIDTHS[:1] if config.encoder.init else _WIDTHS
  networks = [
    _Network(name, width, side)
    for name in _only(config.encoder.name, names)
    for width in _only(config.encoder.width, widths)
    for side in _only(config.data.image_size, sides)
  ]
  networks.sort(key=lambda network: network.seconds(devices), reverse=True)
  passes = min(_PASSES, max(1, _IMAGES // split.size))
  views = passes * split.size * len(config.augment.blur)
  seconds = 60 * config.minutes
  fitting = [n for n in networks if views * n.seconds(devices) <= seconds]
  best = (fitting or networks[-1:])[0]
  reason = (
    f'{passes} passes over {split.size:,} images, typically of {typical} '
    f'pixels, in {config.minutes:g} minutes on {devices.count} {devices.kind} '
    'devices'
  )
  if fitting:
    reason = f'the most computation that leaves time for {reason}'
  else:
    reason = f'the least there is, and still too much for {reason}'
  return {
    'data.image_size': best.side,
    'encoder.name': best.name,
    'encoder.width': best.width,
  }, reason


def _choose_batch(config: Config, split: Split, devices: Devices) -> _Choices:
  """A power of 2: more negatives, but steps enough and memory enough."""
  most = _LARGEST_BATCH.get(devices.kind, _LARGEST_BATCH_ELSEWHERE)
  reason = f'the most that is tried on {devices.kind}'
  if split.size / _BATCHES_AN_EPOCH < most:
    most = split.size / _BATCHES_AN_EPOCH
    reason = f'at least {_BATCHES_AN_EPOCH} batches of {split.size:,} images'
  memory = _MEMORY_SHARE * devices.memory * devices.count
  held = memory / (len(config.augment.blur) * _of(config).bytes())
  if held < most:
    most, reason = held, f'what {memory / 1e9:.0f} GB of memory hold'
  batch = 2 ** int(np.log2(max(most, _SMALLEST_BATCH)))
  batch = min(batch, split.size)
  # A batch is divided among the devices.
  batch = max(batch // devices.count, 1) * devices.count
  return {'batch_size': batch}, reason


def _choose_epochs(config: Config, split: Split, devices: Devices) -> _Choices:
  """What the time allows."""
  each = len(config.augment.blur) * _of(config).seconds(devices) * split.size
  reason = f'an epoch is estimated to take {duration(each)}'
  epochs = max(1, int(60 * config.minutes / each))
  if epochs > _MOST_PASSES:
    epochs, reason = _MOST_PASSES, f'{reason}; more of them would add little'
  return {'epochs': epochs}, reason


def _choose_optimizer(
  config: Config, split: Split, devices: Devices
) -> _Choices:
  """LARS is for large batches."""
  del split, devices
  large = config.batch_size >= _LARS_FROM
  name = config.optimizer.name or ('lars' if large else 'adamw')
  return {
    'optimizer.name': name,
    'optimizer.base_learning_rate': _RATES.get(name, _RATES['adamw']),
    'optimizer.warmup_epochs': min(10.0, config.epochs / 20),
  }, (
    f'LARS is for batches of {_LARS_FROM} images or more; the usual rate; a '
    'twentieth of the epochs, 10 at most'
  )


def _of(config: Config) -> _Network:
  """Returns the network of a config that names it."""
  return _Network(
    config.encoder.name, config.encoder.width, config.data.image_size
  )


def _typical_side(split: Split) -> int:
  """Returns the median of the shorter sides of some images, in pixels."""
  if split.image_shape:
    return min(split.image_shape)
  reader, size = split.reader, split.size
  sides = []
  for i in np.linspace(0, size - 1, min(_LOOKED_AT, size)).astype(int):
    # Training passes over what cannot be read, and says so at its end.
    with contextlib.suppress(tf.errors.OpError):
      sides.append(min(reader.image(int(i)).shape[:2]))
  return int(np.median(sides)) if sides else _SIDES[0]


def _only(value: Any, choices: Any) -> Any:
  """Returns the choices; what the user set is the only one."""
  return choices if value is None else [value]


def _get(config: Config, field: str) -> Any:
  for part in field.split('.'):
    config = config[part]
  return config
