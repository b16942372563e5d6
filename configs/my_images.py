"""SimCLR on images of your own, in the time that you have.

  python -m contrastive_jax.main --workdir=runs/mine \
      --config=configs/my_images.py:folder:/path/to/images --config.minutes=60

Which encoder, image size, batch, optimizer and how many epochs follow from the
number of images, their size, the devices and the minutes, by the rules of
contrastive_jax/training/sizing.py; each choice is printed with its reason. What
you set yourself, as in --config.batch_size=128, stays. The rules are ours. The
speed of a CPU's core is measured, that of GPU and TPU a guess: after its second
step a run says how long it really takes. Measured: experiments/README.md.
"""

from ml_collections import config_dict

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  c = recipes.start('simclr', source)
  c.minutes = 60.0
  for part, field, kind in (
    (c.data, 'image_size', int),
    (c.encoder, 'name', str),
    (c.encoder, 'width', int),
    (c, 'batch_size', int),
    (c, 'epochs', int),
    (c.optimizer, 'name', str),
    (c.optimizer, 'base_learning_rate', float),
    (c.optimizer, 'warmup_epochs', float),
  ):
    part[field] = config_dict.placeholder(kind)  # chosen
  # Your images need not show their thing in the middle.
  c.data.eval_crop = 1.0
  c.data.antialias = True
  c.augment.update(presets.SIMCLR_CIFAR)
  # A crop of 8 % may show nothing of what a picture is of.
  c.augment.crop_scale = (0.2, 1.0)
  c.objective.temperature = 0.2
  c.optimizer.weight_decay = 1e-4
  return c
