"""What CLIP and SigLIP share: a tower of images, one of text, and a scale."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax import keys
from contrastive_jax.config import Error
from contrastive_jax.models import branches, heads
from contrastive_jax.models.encoders import Encoder
from contrastive_jax.objectives import Run


@dataclasses.dataclass(frozen=True)
class Towers:
  """Two encoders, each with a matrix behind it into the common space.

  Attributes:
    image: modules by name, the encoder first.
    text: likewise.
    render: of the image encoder.
    locked: whether the image encoder is left as it is: its parameters are
      then a part of the model_state, which no optimizer sees.
    extra: name -> first value of scalars that are learned.
  """

  image: dict[str, Any]
  text: dict[str, Any]
  render: Any
  locked: bool
  extra: dict[str, float]

  @property
  def notes(self) -> tuple[str, ...]:
    """The `notes` of an objective."""
    if not self.locked:
      return ()
    return (
      "the images' encoder stays as it begins: as encoder.init has it, or at "
      'random weights if that is empty',
    )

  def init(self, rng: jax.Array, batch: dict[str, Any]) -> tuple[Any, Any]:
    """The `init` of an objective."""
    params, stats = {}, {}
    for key, modules, view in zip(
      jax.random.split(rng),
      (self.image, self.text),
      batch['views'],
      strict=True,
    ):
      own, own_stats = branches.init_branch(key, modules, view)
      params |= own
      stats |= own_stats
    params |= {k: jnp.asarray(v, jnp.float32) for k, v in self.extra.items()}
    model_state: dict[str, Any] = {'batch_stats': stats}
    if self.locked:
      model_state['locked'] = {'encoder': params.pop('encoder')}
    return params, model_state

  def evaluated(self, params: Any, model_state: Any) -> tuple[Any, Any]:
    """The `evaluated` of an objective."""
    return {**params, **model_state.get('locked', {})}, model_state

  def embeddings(
    self,
    params: Any,
    model_state: Any,
    views: tuple[Any, Any],
    *,
    rng: jax.Array,
    axis_name: str | None,
  ) -> tuple[jax.Array, jax.Array, Any]:
    """Returns images [b, d], texts [b, d], and the new model_state."""
    stats = model_state['batch_stats']
    mode: Any = dict(train=True, axis_name=axis_name)
    image, view = self.image, views[0]
    if self.locked:
      first = {'encoder': image['encoder']}
      found, _ = branches.run_branch(
        first,
        model_state['locked'],
        stats,
        (self.render(view),),
        train=False,
      )
      (view,) = found['encoder']
      image = {'projector': image['projector']}
    found, stats = branches.run_branch(
      image,
      params,
      stats,
      (view,),
      rng=keys.draw(rng, keys.Draw.DROPOUT, 0),
      **mode,
    )
    (images,) = found['projector']
    found, stats = branches.run_branch(
      self.text,
      params,
      stats,
      (views[1],),
      rng=keys.draw(rng, keys.Draw.DROPOUT, 1),
      **mode,
    )
    (texts,) = found['text_projector']
    return images, texts, {**model_state, 'batch_stats': stats}


def make(
  name: str,
  run: Run,
  encoder: Encoder,
  text_encoder: Encoder | None,
  *,
  size: int,
  locked: bool,
  text_bias: bool,
  extra: dict[str, float],
) -> Towers:
  """Returns the towers of an objective.

  Args:
    name: of the objective, for the sentence.
    run: the sizes.
    encoder: of images.
    text_encoder: of their texts.
    size: of the common space.
    locked: see `Towers`.
    text_bias: whether the texts' matrix has a bias, as SigLIP's.
    extra: see `Towers`.

  Raises:
    Error: there is no text encoder.
  """
  if text_encoder is None:
    raise Error(
      f'{name} has a tower of text, too: set text_encoder.name, such as '
      'text_tiny'
    )
  if run.global_views != 2 or run.local_crops:
    raise Error(f'{name} takes one view of an image and one of its text')

  def matrix(tower: Encoder, bias: bool) -> heads.MLP:
    # CLIP: D^-.5 of the tower's width.
    return heads.MLP(
      [size],
      output_bias=bias,
      kernel_init=jax.nn.initializers.normal(tower.features**-0.5),
      dtype=tower.dtype,
    )

  return Towers(
    {'encoder': encoder.module, 'projector': matrix(encoder, False)},
    {
      'text_encoder': text_encoder.module,
      'text_projector': matrix(text_encoder, text_bias),
    },
    encoder.render,
    locked,
    extra,
  )
