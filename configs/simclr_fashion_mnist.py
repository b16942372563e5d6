"""SimCLR on Fashion-MNIST, made for two CPU cores; ours, not published.

  apt install dataset-fashion-mnist
  python -m contrastive_jax.main --workdir=runs/fashion_mnist \
      --config=configs/simclr_fashion_mnist.py

Measured: experiments/README.md.

Of what was tried in short runs: gentle crops (half of the area at least) gave
1.4 points of linear accuracy over crops from 0.3 on; without jitter it lost 2;
blur and solarization gave up to 0.5; AdamW was better than LARS at this budget;
batch 64 was no worse than 256; and 20 pixels a side instead of 28 double the
images a second, which is worth more than the pixels.
"""

from contrastive_jax import recipes


def get_config(source='idx:/usr/share/datasets/fashion-mnist'):
  c = recipes.get_config('simclr_small', source)
  c.data.image_size = 20
  c.batch_size = 128
  c.steps = 3600
  c.encoder.width = 16
  c.objective.temperature = 0.2
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 0.002
  c.optimizer.warmup_epochs = 0.5
  c.augment.crop_scale = (0.5, 1.0)
  c.augment.blur = (0.5, 0.5)
  c.augment.solarize = (0.2, 0.2)
  return c
