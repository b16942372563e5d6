"""SwAV for images up to 64 pixels, as in lightly's table for CIFAR-10.

  python -m contrastive_jax.main --workdir=runs/swav_cifar10 \
      --config=configs/swav_small.py:tfds:cifar10

Published, documentation of lightly-ai/lightly (not by the authors of SwAV):
ResNet-18, kNN (k 200, T 0.1, the best epoch) 84.2 % after 200 and 88.4 % after
800 epochs of batch 512. Measured: experiments/README.md.

lightly's weight decay is Adam's, ours AdamW's; each of its crops has a pass of
its own; and it does not freeze the prototypes, as the paper's code does and we
do. Its crops are two: augment.local_crops and augment.local_size add others.

Where the loss stays at ln(prototypes) and prototype_usage_entropy too, freeze
the prototypes for longer, or lower sinkhorn_epsilon (to 0.03): predictions grow
uniform before the views agree, and the codes with them.
"""

from contrastive_jax import recipes
from contrastive_jax.data import presets


def get_config(source='digits'):
  # ImageNet's, as lightly has it for CIFAR too.
  c = recipes.small('swav', source, presets.SWAV, cifar10=presets.IMAGENET)
  c.batch_size, c.epochs = 512, 800
  c.data.interpolation = 'bilinear'
  c.augment.local_crops = 0
  c.augment.blur = (0.0, 0.0)
  c.encoder.zero_init_last_scale = False
  c.objective.num_prototypes = 512
  c.objective.projector_hidden_size = 512
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 0.002
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.weight_decay = 1e-6
  c.optimizer.frozen = ('prototypes',)
  c.optimizer.frozen_epochs = 1.0
  if source == 'digits':
    recipes.for_digits(c)
    c.objective.sinkhorn_epsilon = 0.03
    c.optimizer.frozen_epochs = 30.0  # of 11 steps each
  return c
