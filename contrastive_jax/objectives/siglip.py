"""SigLIP: is this text that image's? A yes or no for every pair of the batch.

Zhai et al. 2023 (arXiv 2303.15343). Official code: google-research/big_vision,
trainers/proj/image_text/siglip.py and models/proj/image_text/two_towers.py.
With `lock_image`: SigLiT.
"""

import dataclasses
import math

import jax.numpy as jnp

from contrastive_jax.losses._siglip import siglip
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, _towers, field

TEXT_TOWER = True


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's.

  `temperature` and `bias` that the learned ones begin at; the others as of
  CLIP.
  """

  temperature: float = field(0.1, above=0)
  bias: float = field(-10.0, least=-1000.0, most=1000.0)
  projector_output_size: int = field(768, least=1)
  lock_image: bool = field(False)


CAUSES = {
  'at chance': (
    'texts that say nothing of their images, a learning rate too high, too few '
    'steps: the bias is learned first, then what tells pairs apart'
  ),
  'partial collapse': (
    'few texts for many images, or a bias that began far above -ln(batch)'
  ),
  'collapsed': (
    'no pair is told from another: learning rate or weight decay too high, or '
    'texts that are all alike'
  ),
}


def chance_value(batch_size: int) -> float:
  """Returns the loss where all cosines are 0 and the bias is at its best."""
  rest = batch_size - 1
  return math.log(batch_size) + rest * math.log(batch_size / rest)


def make(
  c: Fields, run: Run, encoder: Encoder, text_encoder: Encoder | None
) -> Objective:
  """Returns SigLIP as `config.objective` has it."""
  towers = _towers.make(
    'SigLIP',
    run,
    encoder,
    text_encoder,
    size=c.projector_output_size,
    locked=c.lock_image,
    text_bias=True,
    extra={'log_scale': -math.log(c.temperature), 'bias': c.bias},
  )

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    images, texts, model_state = towers.embeddings(
      params, model_state, batch['views'], rng=rng, axis_name=axis_name
    )
    scale, bias = jnp.exp(params['log_scale']), params['bias']
    value = siglip(images, texts, scale=scale, bias=bias, axis_name=axis_name)
    cosines = jnp.sum(l2_normalize(images) * l2_normalize(texts), axis=1)
    metrics = {
      'positive_similarity': jnp.mean(cosines),
      'temperature': 1 / scale,
      'bias': bias,
    }
    return value, (model_state, metrics, (images, texts))

  return Objective(
    modules=towers.image,
    text_modules=towers.text,
    init=towers.init,
    evaluated=towers.evaluated,
    loss=loss,
    chance=chance_value,
    causes=CAUSES,
    notes=towers.notes,
  )
