"""Heads: one perceptron serves all objectives; prototypes serve two."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax.config import Error
from contrastive_jax.losses.normalize import l2_normalize
from contrastive_jax.models import normalization

# PyTorch's default of a linear layer, U(-1, 1) / sqrt(inputs), a third of the
# usual variance. SGD notices: the norm behind a matrix makes its scale a factor
# of the learning rate; and without one it sets what the embeddings start from.
torch_init = jax.nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')

# ... of a matrix of rows, [outputs, inputs]: their lengths come to about 0.58.
torch_init_of_rows = jax.nn.initializers.variance_scaling(
  1 / 3, 'fan_in', 'uniform', in_axis=1, out_axis=0
)


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
  """Returns x Phi(x), exact, as PyTorch's default is and Flax's is not.

  That of JAX, `jax.nn.gelu(approximate=False)`, has no gradient under shard_map
  in JAX 0.12.0 (findings/jax_erf_gradient_in_shard_map.sh).

  Args:
    x: any shape.

  Returns:
    Like x.

  Reference: Hendrycks & Gimpel 2016 (arXiv 1606.08415), section 2.
  """
  return x * _normal_cdf(x)


@gelu.defjvp
def _gelu_jvp(primals, tangents):
  (x,), (tangent,) = primals, tangents
  cdf = _normal_cdf(x)
  density = jnp.exp(-0.5 * jnp.square(x)) / math.sqrt(2 * math.pi)
  return x * cdf, tangent * (cdf + x * density)


def _normal_cdf(x):
  return 0.5 * jax.lax.erfc(-x * math.sqrt(0.5))


class MLP(nn.Module):
  """Linear layers with batch norm, and a ReLU or such after each but the last.

  A norm is 'none', 'plain' (no parameters), 'scale' (no offset), 'affine', or
  'layer': PyTorch's layer norm, of each example by itself.
  The heads of the papers (hidden norm, output norm; hidden bias, output bias),
  whose first kernels are PyTorch's where the official code is:

    SimCLR                 affine, scale;   -, -   kernel N(0, 0.01)
    MoCo v2, SupCon        none, none;   bias, bias
    MoCo v3 projector      affine, plain;   -, -
    MoCo v3 predictor      affine, none;    -, -      of a ViT: affine, plain
    BYOL, both             affine, none; bias, -
    SwAV                   affine, none; bias, bias
    SimSiam projector      affine, plain;   -, -
    SimSiam predictor      affine, none;    -, bias
    Barlow Twins           affine, none;    -, -
    VICReg, VICRegL        affine, none; bias, -
    LeJEPA                 affine, none;    -, bias
    VISReg                 affine, none;    -, bias   GELU
    NNCLR projector        affine, scale;   -, -
    NNCLR predictor        affine, none;    -, bias
    DINO, DINOv2           none, none;   bias, bias   GELU, kernel N(0, 0.02)

  Attributes:
    sizes: Width of each layer, the output last.
    hidden_norm: Norm of all layers but the last.
    output_norm: Norm of the last layer.
    hidden_bias: Whether all layers but the last have a bias.
    output_bias: Whether the last layer has one.
    norm_group: `group` of `normalization.BatchNorm`.
    kernel_init: Of the matrices.
    output_init: Of the last one, if that is another.
    activation: After every layer but the last.
    output_activation: After the last one; None: none.
    dtype: Of the computation; parameters and the output are float32.
  """

  sizes: Sequence[int]
  hidden_norm: str = 'affine'
  output_norm: str = 'none'
  hidden_bias: bool = False
  output_bias: bool = False
  norm_group: int | None = None
  kernel_init: jax.nn.initializers.Initializer = nn.initializers.lecun_normal()
  output_init: jax.nn.initializers.Initializer | None = None
  activation: Callable[[jax.Array], jax.Array] = nn.relu
  output_activation: Callable[[jax.Array], jax.Array] | None = None
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool,
    axis_name: str | None = None,
    views: int = 1,
    layers: int | None = None,
  ) -> jax.Array:
    """Maps features to embeddings, which are not normalized to length 1.

    Args:
      x: [b, features].
      train: See `normalization.BatchNorm`, also for axis_name and views.
      axis_name: The mapped axis of the devices; None for one device.
      views: Equal consecutive segments of the batch axis.
      layers: Stop after this many layers, activation included: 0 returns x, 1
        is where SimCLR v2 fine-tunes from (2006.10029, section 3.2).

    Returns:
      [b, sizes[-1]] in float32, or the activation that `layers` asks for.

    Raises:
      ValueError: for an unknown norm.
    """
    x = x.astype(self.dtype)
    for i, size in enumerate(self.sizes[:layers]):
      last = i == len(self.sizes) - 1
      x = nn.Dense(
        size,
        use_bias=self.output_bias if last else self.hidden_bias,
        kernel_init=(last and self.output_init) or self.kernel_init,
        dtype=self.dtype,
        name=f'dense{i + 1}',
      )(x)
      norm = self.output_norm if last else self.hidden_norm
      if norm not in ('none', 'plain', 'scale', 'affine', 'layer'):
        raise Error(
          f"norm '{norm}' of a head is unknown: none, plain, scale, affine, "
          'layer.'
        )
      if norm == 'layer':
        x = nn.LayerNorm(
          epsilon=1e-5,
          dtype=jnp.float32,
          use_fast_variance=False,
          name=f'norm{i + 1}',
        )(x)
      elif norm != 'none':
        x = normalization.BatchNorm(
          group=self.norm_group,
          use_scale=norm in ('scale', 'affine'),
          use_bias=norm == 'affine',
          name=f'norm{i + 1}',
        )(x, train=train, axis_name=axis_name, views=views)
      if not last:
        x = self.activation(x)
      elif self.output_activation is not None:
        x = self.output_activation(x.astype(jnp.float32))
    return x.astype(jnp.float32)


def dino(
  sizes: Sequence[int],
  num_prototypes: int,
  *,
  learned_scale: bool,
  norm_group: int | None,
  hidden_norm: str = 'none',
  dtype: Any = jnp.float32,
) -> dict[str, nn.Module]:
  """Returns the head of DINO and DINOv2.

  Args:
    sizes: of the projector's layers.
    num_prototypes: of the last layer.
    learned_scale: see `Prototypes`.
    norm_group: see `MLP`, also for the others.
    hidden_norm: 'none' or 'affine'.
    dtype: of the projector.

  Returns:
    The modules 'projector' and 'last_layer', one behind the other.
  """
  return {
    'projector': MLP(
      sizes=sizes,
      hidden_norm=hidden_norm,
      # A norm would take the bias away, which the official layers have anyway.
      hidden_bias=hidden_norm == 'none',
      output_bias=True,
      norm_group=norm_group,
      # Official: truncated at 2, a hundred deviations away.
      kernel_init=jax.nn.initializers.normal(0.02),
      activation=gelu,
      dtype=dtype,
    ),
    'last_layer': Prototypes(
      num_prototypes,
      learned_scale=learned_scale,
      vectors_init=torch_init_of_rows,
    ),
  }


def unit_rows(rng: jax.Array, shape: Sequence[int], dtype=jnp.float32):
  """Draws rows evenly from the unit sphere: an initializer."""
  return l2_normalize(jax.random.normal(rng, shape)).astype(dtype)


class Prototypes(nn.Module):
  """Cosines of embeddings with prototypes: the last layer of SwAV and DINO.

  Only the prototypes' directions count. Their stored lengths ('vectors', [size,
  features], one row a prototype) act on the size of updates alone.

  Attributes:
    size: Number of prototypes.
    gradient_through_norm: Whether the gradient knows that the prototypes are
      divided by their lengths, and so has no part along them: DINO's weight
      normalization. If not (SwAV), a length is a constant to it.
    learned_scale: Whether a cosine is multiplied by a trained length a
      prototype ('scale', [size], from 1): DINO's norm_last_layer=False. As a
      scale it is not decayed here; in the official code, a matrix, it is.
    vectors_init: Of the prototypes.
  """

  size: int
  gradient_through_norm: bool = True
  learned_scale: bool = False
  vectors_init: Callable[..., jax.Array] = unit_rows

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool,
    axis_name: str | None = None,
    views: int = 1,
  ) -> jax.Array:
    """Scores embeddings, in float32 whatever comes in.

    Args:
      x: [b, features], not normalized.
      train: Like axis_name and views, what every head takes; unused.
      axis_name: Unused.
      views: Unused.

    Returns:
      [b, size], in [-1, 1] without a learned scale. Zero for a zero embedding.

    Reference: Caron et al. 2020 (SwAV, 2006.09882), section 3.1; Caron et al.
    2021 (DINO, 2104.14294), appendix C. SwAV's official code overwrites the
    stored prototypes by the normalized ones before every step, outside of the
    gradient. A module cannot; with gradient_through_norm=False the gradient is
    the same as long as the lengths are 1, which they are at first. They then
    grow slowly. A length l makes the gradient 1/l as long, and an update of
    some size turn the prototype 1/l as far: nothing that LARC, SwAV's
    optimizer, could notice of a common length; otherwise a slowly falling
    learning rate of the prototypes.
    """
    del train, axis_name, views
    shape = (self.size, x.shape[-1])
    vectors = self.param('vectors', self.vectors_init, shape, jnp.float32)
    if self.gradient_through_norm:
      prototypes = l2_normalize(vectors)
    else:
      squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
      inverse = jax.lax.rsqrt(jnp.maximum(squared, 1e-12))
      prototypes = vectors * jax.lax.stop_gradient(inverse)
    scores = jnp.matmul(
      l2_normalize(x), prototypes.T, precision=jax.lax.Precision.HIGHEST
    )
    if self.learned_scale:
      ones = nn.initializers.ones
      scores *= self.param('scale', ones, (self.size,), jnp.float32)
    return scores
