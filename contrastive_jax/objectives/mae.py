"""MAE: the pixels of the patches that the encoder does not see.

He et al. 2021 (arXiv 2111.06377). Official code: facebookresearch/mae. No
negatives, no pairs: the baseline. For encoders with patches: ViT.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.config import Error
from contrastive_jax.losses._mae import mae, normalize_patches
from contrastive_jax.models import branches, masking
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.models.mae_decoder import Decoder, to_patches
from contrastive_jax.objectives import Objective, Run, check_views, field, share


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's for ImageNet.

  `mask_ratio`, the share of the patches that is left out; `normalize_pixels`,
  whether each patch's pixels are normalized by their own mean and standard
  deviation before they are predicted; `decoder_size` (width), `decoder_depth`
  and `decoder_heads`, of the decoder, which sees a device's whole batch also
  where `microbatch` divides the encoder's.
  """

  mask_ratio: float = share(0.75)
  normalize_pixels: bool = field(True)
  decoder_size: int = field(512, least=4)
  decoder_depth: int = field(8, least=1)
  decoder_heads: int = field(16, least=1)


CAUSES = {
  'at chance': (
    'learning rate too low or too high, weight decay too high, or patches that '
    'nothing beside them tells anything of'
  ),
  'collapsed': (
    'the class token is the same for all images: a decoder that does without '
    'the encoder, learning rate or weight decay too high'
  ),
}


def make(c: Fields, run: Run, encoder: Encoder) -> Objective:
  """Returns MAE as `config.objective` has it.

  Its chance value is that of zero, the mean of a normalized patch; the reports
  have that of the run's own images, of whose patches some are constant.

  Raises:
    ValueError: the encoder has no patches, none or all of them would be left
      out, or the decoder cannot be.
  """
  check_views('MAE', run, 1)
  if (grid := encoder.patches) is None:
    raise Error('MAE leaves out patches: encoder.name has to be that of a ViT')
  if getattr(encoder.module, 'pool', 'token') != 'token':
    raise Error("MAE's decoder takes the class token: set encoder.pool=token")
  patches = math.prod(grid)
  seen = int(patches * (1 - c.mask_ratio))
  if not 0 < seen < patches:
    raise Error(
      f'MAE shows {seen} of {patches} patches with objective.mask_ratio '
      f'{c.mask_ratio:g}: it has to show some, and to leave out some'
    )
  if c.decoder_size % c.decoder_heads or c.decoder_size % 4:
    raise Error(
      f'objective.decoder_size is {c.decoder_size}: it has to be a multiple of '
      f'4 and of the {c.decoder_heads} decoder_heads'
    )
  values = math.prod(run.input_shape) // patches
  if c.normalize_pixels and values == 1:
    raise Error(
      'objective.normalize_pixels is for patches of more than one value: set '
      'it to False, or encoder.patch_size to more than 1'
    )
  decoder = Decoder(
    c.decoder_size,
    c.decoder_depth,
    c.decoder_heads,
    grid,
    values,
    encoder.dtype,
  )
  modules = {'encoder': encoder.module}

  def init(rng, batch):
    first, second = jax.random.split(rng)
    view = batch['views'][0]
    params, batch_stats = branches.init_branch(first, modules, view)
    rows = len(view)
    variables = decoder.init(
      second,
      jnp.zeros((rows, encoder.features)),
      jnp.zeros((rows, seen, encoder.features)),
      jnp.tile(jnp.arange(patches), (rows, 1)),
    )
    params['decoder'] = variables['params']
    return params, {'batch_stats': batch_stats}

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    drawn = masking.example_keys(run.seed, batch, 0, keys.View.MASK)
    order = jax.vmap(lambda key: masking.visible(key, patches, seen))(drawn)
    ((features,), (tokens,)), batch_stats = branches.run_maps(
      encoder.module,
      params,
      model_state['batch_stats'],
      batch['views'],
      train=True,
      axis_name=axis_name,
      rng=keys.draw(rng, keys.Draw.DROPOUT),
      visible=order[:, :seen],
    )
    predicted: Any = decoder.apply(
      {'params': params['decoder']}, features, tokens, order
    )
    targets = to_patches(encoder.render(batch['views'][0]), grid)
    hidden = order[:, seen:, None]
    predicted, targets = (
      jnp.take_along_axis(x, hidden, axis=1) for x in (predicted, targets)
    )
    if c.normalize_pixels:
      targets = normalize_patches(targets)
    value = mae(predicted, targets)
    metrics = {'chance_loss': mae(jnp.zeros_like(targets), targets)}
    metrics = jax.lax.stop_gradient(metrics)
    return value, ({'batch_stats': batch_stats}, metrics, (features,))

  share_of_one = (values - 1) / values if c.normalize_pixels else 1.0
  return Objective(
    modules=modules,
    init=init,
    loss=loss,
    chance=lambda batch_size: share_of_one,
    causes=CAUSES,
    # Nothing asks the class token for the image: on digits it was nearly the
    # same for all until step 200, and whole after 350 at the latest.
    quiet_steps=400,
  )
