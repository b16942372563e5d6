"""An objective and an encoder as a user writes them, outside of the package.

No private name of the package is used: what is imported here is what the
contracts of contrastive_jax/README.md promise.
"""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp
import ml_collections

from contrastive_jax import keys, losses, recipes
from contrastive_jax.data import presets
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field


class TinyConvNet(nn.Module):
  """A convolution, its mean over positions, and a linear layer.

  It has no batch statistics, so axis_name and views change nothing.
  """

  features: int

  @nn.compact
  def __call__(self, images, *, train, axis_name=None, views=1):
    del train, axis_name, views
    x = nn.relu(nn.Conv(self.features, (3, 3))(images))
    # The projector's batch norm would take a bias away again: its gradient
    # would be rounding, and no number of devices rounds like another.
    x = nn.Dense(self.features, use_bias=False)(x.mean((1, 2)))
    return x.astype(jnp.float32)


def tiny_convnet(config, run: Run) -> Encoder:
  del run
  return Encoder(TinyConvNet(config.width), features=config.width)


@dataclasses.dataclass(frozen=True)
class Fields:
  temperature: float = field(0.5, above=0)
  output_size: int = field(16, least=1)


def alignment(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Two views of an image agree, against the other images of the batch."""
  check_views('alignment', run, 2)
  projector = heads.MLP(
    sizes=[encoder.features, c.output_size],
    norm_group=encoder.norm_group,
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder.module, 'projector': projector}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    outputs, batch_stats = branches.run_branch(
      modules,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
      rng=keys.draw(rng, keys.Draw.DROPOUT),
    )
    first, second = outputs['projector']
    value = losses.nt_xent(
      first, second, temperature=c.temperature, axis_name=axis_name
    )
    return value, ({'batch_stats': batch_stats}, {}, (first, second))

  return Objective(
    init=branches.init_fn(modules),
    loss=loss,
    chance=lambda batch_size: math.log(2 * batch_size - 1),
    causes={'at chance': 'crops that share nothing, or the learning rate'},
  )


def get_config(source: str = 'digits') -> ml_collections.ConfigDict:
  c = recipes.small('tests.outside:alignment', source, presets.SIMCLR)
  recipes.for_digits(c)
  c.encoder.name = 'tests.outside:tiny_convnet'
  c.batch_size = 64
  c.steps = 4
  c.log.every_steps = 2
  c.checkpoint.every_steps = 4
  c.evaluation.batch_size = 16
  return c
