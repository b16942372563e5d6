"""NNCLR: predictions agree with the nearest neighbor of the other view.

Dwibedi et al. 2021 (arXiv 2104.14548). There is no official code; solo-learn
decides what the paper leaves open. (lightly's loss is NT-Xent, which has the
same view's negatives too, and it keeps the other view in the support set.)
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.losses import queue as queue_lib
from contrastive_jax.losses._info_nce import batch_info_nce
from contrastive_jax.losses.gather import all_rows_replicated
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import (
  Objective,
  Run,
  check_views,
  field,
  queue_notes,
)


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `temperature`; `queue_size`, embeddings in the support set;
  `projector_hidden_size` (of its first two layers of three),
  `projector_output_size`, `predictor_hidden_size`.
  """

  temperature: float = field(0.1, above=0)
  queue_size: int = field(98_304, least=1)
  projector_hidden_size: int = field(2048, least=1)
  projector_output_size: int = field(256, least=1)
  predictor_hidden_size: int = field(4096, least=1)


CAUSES = {
  'at chance': (
    'neighbors that are noise (a queue that is not full yet or too small for '
    'the data), views that share nothing, a learning rate too high or too low'
  ),
  'partial collapse': (
    'a queue too small for the data: neighbors of one image serve many; too '
    'few negatives (a small batch), too high a temperature'
  ),
  'collapsed': (
    'one row of the queue is the neighbor of every image: a queue too small, '
    'or a learning rate too high'
  ),
}

# Of a row that no image gave yet: unlike any label, also unlike 'none' (-1).
_NO_IMAGE = -2


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns NNCLR as `config.objective` has it."""
  check_views('NNCLR', run, 2)
  queue_lib.check_size(c.queue_size, run.batch_size)
  head: Any = dict(norm_group=encoder.norm_group, dtype=encoder.dtype)
  projector = heads.MLP(
    sizes=[c.projector_hidden_size] * 2 + [c.projector_output_size],
    # The reference codes' norm has an offset too, which nothing can train: the
    # predictor's norm takes it out, and Adam would blow up what rounding left.
    output_norm='scale',
    **head,
  )
  predictor = heads.MLP(
    sizes=[c.predictor_hidden_size, c.projector_output_size],
    output_bias=True,
    **head,
  )
  modules = {
    'encoder': encoder.module,
    'projector': projector,
    'predictor': predictor,
  }

  def init(rng, batch):
    branch_rng, queue_rng = jax.random.split(rng)
    params, batch_stats = branches.init_branch(
      branch_rng, modules, batch['views'][0]
    )
    return params, {
      'batch_stats': batch_stats,
      'queue': queue_lib.random_rows(
        queue_rng, c.queue_size, c.projector_output_size
      ),
      'queue_label': jnp.full((c.queue_size,), _NO_IMAGE, jnp.int32),
      'queue_pointer': jnp.zeros((), jnp.int32),
    }

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    queue, queue_label = model_state['queue'], model_state['queue_label']
    batch_stats = model_state['batch_stats']
    embeddings, predictions = [], []
    # A pass, and so batch statistics, of its own for each view.
    for number, view in enumerate(batch['views']):
      outputs, batch_stats = branches.run_branch(
        modules,
        params,
        batch_stats,
        (view,),
        train=True,
        axis_name=axis_name,
        rng=keys.draw(rng, keys.Draw.DROPOUT, number),
      )
      embeddings += outputs['projector']
      predictions += outputs['predictor']
    values, metrics = [], []
    for z, p in zip(embeddings, predictions[::-1], strict=True):
      index, similarity = queue_lib.nearest(queue, z)
      value, statistics = batch_info_nce(
        queue[index], p, temperature=c.temperature, axis_name=axis_name
      )
      statistics['nearest_neighbor_similarity'] = jnp.mean(similarity)
      if run.num_classes is not None:
        statistics['nearest_neighbor_label_accuracy'] = jnp.mean(
          (queue_label[index] == batch['label']) & (batch['label'] >= 0)
        )
      values.append(value)
      metrics.append(statistics)
    # After use, so that no image is its own neighbor; of one view, as in the
    # paper's algorithm 1.
    pointer = model_state['queue_pointer']
    rows = all_rows_replicated(l2_normalize(embeddings[0]), axis_name)
    labels = all_rows_replicated(batch['label'], axis_name)
    model_state = {'batch_stats': batch_stats}
    model_state['queue_label'], _ = queue_lib.enqueue(
      queue_label, pointer, labels
    )
    model_state['queue'], model_state['queue_pointer'] = queue_lib.enqueue(
      queue, pointer, rows
    )
    metrics = jax.tree.map(lambda *x: sum(x) / len(x), *metrics)
    return jnp.mean(jnp.stack(values)), (
      model_state,
      metrics,
      tuple(embeddings),
    )

  return Objective(
    modules=modules,
    init=init,
    loss=loss,
    chance=math.log,
    causes=CAUSES,
    notes=queue_notes(
      c.queue_size,
      run.batch_size,
      run,
      "an image's nearest neighbor may be its own past embedding",
    ),
  )
