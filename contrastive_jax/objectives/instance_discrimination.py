"""Instance discrimination: every training image is a class of its own.

Wu et al. 2018 (arXiv 1805.01978). Official code: zhirongw/lemniscate.pytorch.
A memory bank holds the last embedding of every image.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.losses import _instance as instance
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `temperature`; `negatives`: 0 for the softmax over the whole bank,
  otherwise the noise samples of an image and step (NCE; 4,096 is the
  official default); `bank_momentum`: share of the old row in the bank's
  update (0.5); `proximal_weight`: lambda of the paper's section 3.3, lambda
  ||v - m||^2, which the official code leaves out (0);
  `projector_output_size`: of the one linear layer. One view.
  """

  temperature: float = field(0.07, above=0)
  negatives: int = field(4096, least=0)
  bank_momentum: float = field(0.5, least=0, below=1)
  proximal_weight: float = field(0.0, least=0)
  projector_output_size: int = field(128, least=1)


# An image meets its row of the bank once an epoch, so that a healthy run is
# above chance for several epochs, however many steps they have.
_GRACE_EPOCHS = 10.0

CAUSES = {
  'at chance': (
    'too low a learning rate, too high a temperature, or augmentations that '
    'leave nothing of an image'
  ),
  'partial collapse': (
    'views that one simple feature, such as the mean color, tells apart, or '
    'too high a temperature'
  ),
  'collapsed': (
    'with noise, a bad first estimate of Z; otherwise a numerical fault: '
    'learning rate or weight decay too high, or constant images'
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns instance discrimination as `config.objective` has it."""
  check_views('instance discrimination', run, 1)
  size, dimensions = run.num_examples, c.projector_output_size
  projector = heads.MLP(
    sizes=[dimensions],
    output_bias=True,
    kernel_init=heads.torch_init,
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder.module, 'projector': projector}

  def init(rng, batch):
    branch_rng, bank_rng = jax.random.split(rng)
    params, batch_stats = branches.init_branch(
      branch_rng, modules, batch['views'][0]
    )
    limit = 1 / math.sqrt(dimensions / 3)  # rows of length 1 on average
    bank = jax.random.uniform(
      bank_rng, (size, dimensions), minval=-limit, maxval=limit
    )
    model_state = {'batch_stats': batch_stats, 'bank': bank}
    if c.negatives:
      model_state['log_z'] = jnp.array(-jnp.inf)  # Z = 0: not yet estimated
    return params, model_state

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
    embeddings, ids = outputs['projector'], batch['id']
    (z,), bank = embeddings, model_state['bank']
    model_state = {**model_state, 'batch_stats': batch_stats}
    if c.negatives:
      noise = instance.draw_noise(
        keys.draw(rng, keys.Draw.NOISE), ids, c.negatives, size
      )
      value, model_state['log_z'], metrics = instance.nce(
        z,
        ids,
        noise,
        bank,
        model_state['log_z'],
        temperature=c.temperature,
        axis_name=axis_name,
      )
    else:
      value, metrics = instance.full_softmax(
        z, ids, bank, temperature=c.temperature
      )
    if c.proximal_weight:
      moved = jnp.sum(jnp.square(l2_normalize(z) - bank[ids]), axis=-1)
      value += c.proximal_weight * jnp.mean(moved)
    model_state['bank'] = instance.update_bank(
      bank, ids, z, momentum=c.bank_momentum, axis_name=axis_name
    )
    return value, (model_state, metrics, embeddings)

  notes = ()
  if c.negatives > size:
    notes = (
      f'objective.negatives={c.negatives} are drawn for each image from a bank '
      f'of {size:,}: 0 compares with each of these once',
    )

  def chance(batch_size):
    del batch_size
    if c.negatives:
      return instance.nce_chance(c.negatives, size)
    return math.log(size)

  return Objective(
    modules=modules,
    init=init,
    loss=loss,
    chance=chance,
    causes=CAUSES,
    grace_epochs=_GRACE_EPOCHS,
    notes=notes,
  )
