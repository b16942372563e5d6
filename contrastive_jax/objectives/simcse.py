"""SimCSE: a sentence finds itself under other dropout, or its pair.

Gao et al. 2021 (arXiv 2104.08821). Official code: princeton-nlp/SimCSE,
simcse/models.py.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.config import Error
from contrastive_jax.losses._simcse import simcse
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, field


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's.

  `temperature`; `hard_negative_weight`: added to the logit of a sentence's own
  hard negative, where the data has any.
  """

  temperature: float = field(0.05, above=0)
  hard_negative_weight: float = field(0.0, least=0)


CAUSES = {
  'at chance': (
    'a learning rate too high or too low, a temperature far from 0.05, pairs '
    'that have nothing in common'
  ),
  'partial collapse': (
    'no dropout (encoder.dropout), so that the views are one and nothing is to '
    'be learned; too few negatives (a small batch)'
  ),
  'collapsed': (
    'negatives push all embeddings apart, so a numerical fault: learning rate '
    'or weight decay too high, or sentences that are all alike'
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns SimCSE as `config.objective` has it.

  Views are those of `text.views`: a sentence twice, it and its pair, or these
  and a hard negative. All share one pass, and no two rows a dropout mask.
  """
  if run.global_views not in (2, 3) or run.local_crops:
    raise Error(
      'SimCSE takes a sentence and its other view, and perhaps a hard negative;'
      f' there are {run.global_views} views, and {run.local_crops} local crops'
    )
  # BERT's pooler, with its initialization.
  projector = heads.MLP(
    sizes=[encoder.features],
    output_bias=True,
    kernel_init=jax.nn.initializers.normal(0.02),
    output_activation=jnp.tanh,
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
    embeddings = tuple(outputs['projector'])
    value, metrics = simcse(
      *embeddings,
      temperature=c.temperature,
      hard_negative_weight=c.hard_negative_weight,
      axis_name=axis_name,
    )
    return value, ({'batch_stats': batch_stats}, metrics, embeddings)

  return Objective(
    modules=modules,
    init=branches.init_fn(modules),
    loss=loss,
    chance=lambda batch_size: math.log(batch_size * (run.global_views - 1)),
    causes=CAUSES,
  )
