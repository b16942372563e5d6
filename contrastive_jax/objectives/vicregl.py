"""VICRegL: VICReg of views, and of places in them that match.

Bardes, Ponce and LeCun 2022 (arXiv 2210.01571).
Official code: facebookresearch/VICRegL (CC BY-NC).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.config import Error
from contrastive_jax.losses._vicreg import chance_value
from contrastive_jax.losses._vicregl import centers_of, vicregl_and_terms
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, check_views, field, share


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are those of the official code.

  `alpha`, the share of whole views, the rest is that of places (0.9 and 0.75
  in the paper); `similarity_weight`, `variance_weight`, `covariance_weight` as
  of `vicreg`; `matches` and `matches_back`, pairs of places from a global view
  to another one and back; `all_by_feature`, whether by features all places are
  matched; `mirrored`, whether places of a mirrored view are mirrored, too (the
  official default leaves them as they were); `projector_layers`,
  `projector_hidden_size`, `projector_output_size` of the views' expander, and
  `map_projector_size`, of all three layers of the places'; `projector_norm` of
  both, 'batch', or 'layer', as behind the official ConvNeXt.
  """

  alpha: float = share(0.75)
  similarity_weight: float = field(25.0, least=0)
  variance_weight: float = field(25.0, least=0)
  covariance_weight: float = field(1.0, least=0)
  matches: int = field(20, least=1)
  matches_back: int = field(4, least=1)
  all_by_feature: bool = field(True)
  mirrored: bool = field(True)
  projector_layers: int = field(3, least=1)
  projector_hidden_size: int = field(8192, least=1)
  projector_output_size: int = field(8192, least=1)
  map_projector_size: int = field(512, least=1)
  projector_norm: str = field('batch', among=('batch', 'layer'))


CAUSES = {
  'at chance': (
    'embeddings shrink to a point or have not left it: variance_weight small '
    'beside similarity_weight, or a learning rate too high or too low'
  ),
  'partial collapse': (
    'covariance_weight too small, a projector too narrow, a learning rate too '
    'high, alpha too small for the views'
  ),
  'collapsed': (
    'variance_weight is 0 or small beside similarity_weight, learning rate or '
    'weight decay too high, or constant images'
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns VICRegL as `config.objective` has it.

  Its chance value is the loss of an encoder that has collapsed to a point.

  Raises:
    ValueError: the encoder cannot say what it sees where, or sees one place.
  """
  check_views('VICRegL', run, 2, local_crops=True)
  rows, columns = _map_shape(encoder, run)
  if rows * columns < 2:
    raise Error(
      'VICRegL matches places of a view, and there is one: images of '
      f'{run.input_shape[0]} pixels are too small for this encoder'
    )

  def perceptron(sizes, norm_group):
    layer = c.projector_norm == 'layer'
    return heads.MLP(
      sizes=sizes,
      hidden_norm='layer' if layer else 'affine',
      hidden_bias=layer,  # a batch norm would take it away
      norm_group=norm_group,
      kernel_init=heads.torch_init,
      dtype=encoder.dtype,
    )

  hidden = [c.projector_hidden_size] * (c.projector_layers - 1)
  expander = perceptron([*hidden, c.projector_output_size], encoder.norm_group)
  # Its norms are over all places of the whole batch, whatever the encoder's.
  map_projector = perceptron([c.map_projector_size] * 3, None)
  modules = {'encoder': encoder.module, 'projector': expander}

  def init(rng, batch):
    first, second = jax.random.split(rng)
    params, stats = branches.init_branch(first, modules, batch['views'][0])
    x = jnp.zeros((2, encoder.features))
    variables = map_projector.init(second, x, train=False)
    params['map_projector'] = variables['params']
    stats['map_projector'] = variables.get('batch_stats', {})
    return params, {'batch_stats': stats}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    if 'places' not in batch:
      raise Error('VICRegL matches places in one image: not those of pairs')
    stats = model_state['batch_stats']
    mode: Any = dict(train=True, axis_name=axis_name)
    embeddings, maps, centers = [], [], []
    # A pass, and so batch statistics, of its own for each view, as official.
    for number, view in enumerate(batch['views']):
      ((features,), (seen,)), stats = branches.run_maps(
        encoder.module,
        params,
        stats,
        (view,),
        rng=keys.draw(rng, keys.Draw.DROPOUT, number),
        **mode,
      )
      rows, columns, width = seen.shape[1:]
      z, stats = branches.run_branch(
        {'projector': expander}, params, stats, (features,), **mode
      )
      m, stats = branches.run_branch(
        {'map_projector': map_projector},
        params,
        stats,
        (seen.reshape(-1, width),),
        **mode,
      )
      embeddings += z['projector']
      (m,) = m['map_projector']
      maps.append(m.reshape(len(features), rows * columns, -1))
      at = batch['places'][number]
      centers.append(centers_of(at, rows, columns, mirrored=c.mirrored))
    value, metrics = vicregl_and_terms(
      embeddings,
      maps,
      centers,
      alpha=c.alpha,
      similarity_weight=c.similarity_weight,
      variance_weight=c.variance_weight,
      covariance_weight=c.covariance_weight,
      matches=(c.matches, c.matches_back),
      all_by_feature=c.all_by_feature,
      axis_name=axis_name,
    )
    metrics['collapse_gauge'] = jnp.minimum(1.0, metrics.pop('mean_std'))
    return value, ({'batch_stats': stats}, metrics, tuple(embeddings[:2]))

  # That of views; places are matched twice, by features and by location.
  chance = chance_value(variance_weight=c.variance_weight, variance_form='code')
  chance *= c.alpha + 2 * (1 - c.alpha)
  return Objective(
    modules=modules,
    init=init,
    loss=loss,
    chance=lambda batch_size: chance,
    causes=CAUSES,
  )


def _map_shape(encoder: Encoder, run: Run) -> tuple[int, int]:
  """Rows and columns of the map of a global view."""
  image = jnp.zeros((1, *run.input_shape))

  def maps(rng):
    variables = encoder.module.init(rng, image, train=False)
    return encoder.module.apply(variables, image, train=False, maps=True)[1]

  try:
    return jax.eval_shape(maps, jax.random.key(0)).shape[1:3]
  except TypeError as error:
    raise Error('VICRegL is for encoders that take maps=True') from error
