"""CLIP: an image finds its text in the batch, and a text its image.

Radford et al. 2021 (arXiv 2103.00020). Official code: openai/CLIP,
clip/model.py, which does not train; mlfoundations/open_clip, loss.py and
task.py, does. With `lock_image`: LiT, Zhai et al. 2022 (2111.07991).
"""

import dataclasses
import math

import jax.numpy as jnp

from contrastive_jax.losses._clip import clip_and_statistics
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Objective, Run, _towers, field

TEXT_TOWER = True


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `config.objective`; defaults are the paper's.

  `temperature` that the learned one begins at; it stays between
  `least_temperature` and 1; `projector_output_size`: dimensions of the common
  space; `lock_image`: the image encoder stays as it is, whatever `encoder.init`
  has put there.
  """

  temperature: float = field(0.07, above=0, most=1)
  least_temperature: float = field(0.01, above=0, most=1)
  projector_output_size: int = field(512, least=1)
  lock_image: bool = field(False)


CAUSES = {
  'at chance': (
    'texts that say nothing of their images, a learning rate too high, too few '
    'steps: it takes long to leave chance from random weights'
  ),
  'partial collapse': (
    'few texts for many images, too few negatives (a small batch)'
  ),
  'collapsed': (
    'negatives push all embeddings apart, so a numerical fault: learning rate '
    'or weight decay too high, or texts that are all alike'
  ),
}


def make(
  c: Fields, run: Run, encoder: Encoder, text_encoder: Encoder | None
) -> Objective:
  """Returns CLIP as `config.objective` has it."""
  towers = _towers.make(
    'CLIP',
    run,
    encoder,
    text_encoder,
    size=c.projector_output_size,
    locked=c.lock_image,
    text_bias=False,
    extra={'log_scale': -math.log(c.temperature)},
  )

  def loss(params, model_state, batch, *, rng, step, axis_name):
    del step
    images, texts, model_state = towers.embeddings(
      params, model_state, batch['views'], rng=rng, axis_name=axis_name
    )
    temperature = jnp.exp(-params['log_scale'])
    value, metrics = clip_and_statistics(
      images, texts, temperature=temperature, axis_name=axis_name
    )
    metrics['temperature'] = temperature
    return value, (model_state, metrics, (images, texts))

  def project(params):
    # After the update: a bound in the loss would stop the gradient there, and
    # the parameter could not come back.
    highest = -math.log(c.least_temperature)
    return {**params, 'log_scale': jnp.clip(params['log_scale'], 0, highest)}

  return Objective(
    modules=towers.image,
    text_modules=towers.text,
    init=towers.init,
    evaluated=towers.evaluated,
    loss=loss,
    project=project,
    chance=math.log,
    causes=CAUSES,
    notes=towers.notes,
  )
