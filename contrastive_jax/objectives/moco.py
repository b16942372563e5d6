"""MoCo: a query agrees with its key, against a queue of past keys.

He et al. 2020 (arXiv 1911.05722); version 2: Chen et al. 2020 (2003.04297).
Official code: facebookresearch/moco; for small images, the CIFAR-10 notebook
on its branch colab-notebook.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from contrastive_jax import keys
from contrastive_jax.losses import queue as queue_lib
from contrastive_jax.losses._info_nce import queue_info_nce
from contrastive_jax.losses.gather import (
  all_rows,
  all_rows_replicated,
  first_row,
)
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import (
  Objective,
  Run,
  check_views,
  field,
  queue_notes,
  share,
)


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `temperature`; `queue_size` K, keys; `tau`, the share of the key network
  that one step keeps; `projector_layers` (1: version 1; 2: version 2),
  `projector_hidden_size` (0: as wide as the encoder's output, the official
  choice), `projector_output_size`; `symmetric`: False for the paper's one
  direction, True for the sum of both, an option of the notebook; `shuffle`:
  whether the keys' ghost groups (`encoder.norm`, 'ghost:32' for the
  official 256 images on 8 GPUs) are drawn anew, so that a query and its key
  are normalized in different company.
  """

  temperature: float = field(0.2, above=0)
  queue_size: int = field(65_536, least=1)
  tau: float = share(0.999)
  shuffle: bool = field(True)
  symmetric: bool = field(False)
  projector_layers: int = field(2, least=1)
  projector_hidden_size: int = field(0, least=0)
  projector_output_size: int = field(128, least=1)


CAUSES = {
  'at chance': (
    'tau too low: keys of the queue disagree (0 fails); views that share '
    'nothing; a learning rate too high or too low'
  ),
  'partial collapse': (
    'batch statistics that give the key away (shuffle off, or global norm), '
    'a queue still full of noise, too high a temperature'
  ),
  'collapsed': (
    'a queue still full of noise (its first K/B steps), or a numerical fault: '
    'learning rate or weight decay too high, or constant images'
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns MoCo as `config.objective` has it."""
  check_views('MoCo', run, 2)
  num_directions = 2 if c.symmetric else 1
  queue_lib.check_size(c.queue_size, num_directions * run.batch_size)
  # The statistics of a global norm do not depend on the order.
  shuffle = c.shuffle and encoder.norm_group is not None
  hidden_size = c.projector_hidden_size or encoder.features
  projector = heads.MLP(
    sizes=[hidden_size] * (c.projector_layers - 1) + [c.projector_output_size],
    hidden_norm='none',
    hidden_bias=True,
    output_bias=True,
    kernel_init=heads.torch_init,
    dtype=encoder.dtype,
  )
  modules = {'encoder': encoder.module, 'projector': projector}

  def init(rng, batch):
    branch_rng, queue_rng = jax.random.split(rng)
    params, batch_stats = branches.init_branch(
      branch_rng, modules, batch['views'][0]
    )
    return params, {
      'batch_stats': batch_stats,
      'target': params,
      'target_batch_stats': batch_stats,
      'queue': queue_lib.random_rows(
        queue_rng, c.queue_size, c.projector_output_size
      ),
      'queue_pointer': jnp.zeros((), jnp.int32),
    }

  def make_keys(rng, number, target, batch_stats, view, axis_name):
    """Returns raw keys of the global batch, in its order, and statistics."""
    order = None
    if shuffle:
      images = jax.tree.map(lambda x: all_rows(x, axis_name), view)
      rows, total = (len(jax.tree.leaves(x)[0]) for x in (view, images))
      order = jax.random.permutation(
        keys.draw(rng, keys.Draw.SHUFFLE, number), total
      )
      first = first_row(rows, axis_name)
      mine = jax.lax.dynamic_slice_in_dim(order, first, rows)
      view = jax.tree.map(lambda x: x[mine], images)
    outputs, batch_stats = branches.run_branch(
      modules,
      target,
      batch_stats,
      (view,),
      train=True,
      axis_name=axis_name,
      rng=keys.draw(rng, keys.Draw.TARGET_DROPOUT, number),
    )
    rows = all_rows_replicated(outputs['projector'][0], axis_name)
    return rows if order is None else rows[jnp.argsort(order)], batch_stats

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    batch_stats = model_state['batch_stats']
    target_batch_stats = model_state['target_batch_stats']
    directions = [batch['views'], batch['views'][::-1]][:num_directions]
    losses, metrics, queries, found_keys = [], [], [], []
    for number, (query_view, key_view) in enumerate(directions):
      outputs, batch_stats = branches.run_branch(
        modules,
        params,
        batch_stats,
        (query_view,),
        train=True,
        axis_name=axis_name,
        rng=keys.draw(rng, keys.Draw.DROPOUT, number),
      )
      q = outputs['projector'][0]
      all_k, target_batch_stats = make_keys(
        rng,
        number,
        model_state['target'],
        target_batch_stats,
        key_view,
        axis_name,
      )
      first = first_row(len(q), axis_name)
      k = jax.lax.dynamic_slice_in_dim(all_k, first, len(q))
      value, statistics = queue_info_nce(
        q, k, model_state['queue'], temperature=c.temperature
      )
      losses.append(value)
      metrics.append(statistics)
      queries.append(q)
      found_keys.append((k, all_k))
    # After use: an image's new key is not among its negatives.
    queue, pointer = queue_lib.enqueue(
      model_state['queue'],
      model_state['queue_pointer'],
      l2_normalize(jnp.concatenate([all_k for _, all_k in found_keys])),
    )
    model_state = {
      **model_state,
      'batch_stats': batch_stats,
      'target_batch_stats': target_batch_stats,
      'queue': queue,
      'queue_pointer': pointer,
    }
    embeddings = (*queries, found_keys[0][0])[:2]
    metrics = jax.tree.map(lambda *x: sum(x) / len(x), *metrics)
    return jnp.sum(jnp.stack(losses)), (model_state, metrics, embeddings)

  def after_update(params, model_state, step):
    del step
    # The official forward pass first moves the key network toward the query
    # network as the update before left it. Here that is done at once, so that
    # the keys of every step are the same.
    target = optax.incremental_update(params, model_state['target'], 1 - c.tau)
    return {**model_state, 'target': target}

  return Objective(
    modules=modules,
    init=init,
    loss=loss,
    after_update=after_update,
    chance=lambda batch_size: num_directions * math.log(c.queue_size + 1),
    notes=queue_notes(
      c.queue_size,
      num_directions * run.batch_size,
      run,
      "an image's own past keys are among its negatives",
    ),
    causes=CAUSES,
  )
