"""Projection and prediction heads: one perceptron serves all objectives."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax.models import normalization


class MLP(nn.Module):
  """Linear layers with batch norm, and a ReLU after each but the last.

  A norm is 'none', 'plain' (no parameters), 'scale' (no offset) or 'affine'.
  The heads of the papers (hidden norm, output norm; hidden bias, output bias):

    SimCLR                 affine, scale;   -, -   kernel N(0, 0.01)
    MoCo v2, SupCon        none, none;   bias, bias
    MoCo v3 projector      affine, plain;   -, -
    MoCo v3 predictor      affine, none;    -, -
    BYOL, both             affine, none; bias, -
    SwAV                   affine, none; bias, bias
    SimSiam projector      affine, plain;   -, -
    SimSiam predictor      affine, none;    -, bias
    Barlow Twins           affine, none;    -, -
    VICReg                 affine, none; bias, -
    NNCLR projector        affine, affine;  -, -
    NNCLR predictor        affine, none;    -, -

  Attributes:
    sizes: Width of each layer, the output last.
    hidden_norm: Norm of all layers but the last.
    output_norm: Norm of the last layer.
    hidden_bias: Whether all layers but the last have a bias.
    output_bias: Whether the last layer has one.
    norm_group: `group` of `normalization.BatchNorm`.
    kernel_init: Of the matrices.
    dtype: Of the computation; parameters and the output are float32.
  """

  sizes: Sequence[int]
  hidden_norm: str = 'affine'
  output_norm: str = 'none'
  hidden_bias: bool = False
  output_bias: bool = False
  norm_group: int | None = None
  kernel_init: jax.nn.initializers.Initializer = nn.initializers.lecun_normal()
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
    """Maps features to embeddings, which are not normalised to length 1.

    Args:
      x: [b, features].
      train: See `normalization.BatchNorm`, also for axis_name and views.
      axis_name: The mapped axis of the devices; None for one device.
      views: Equal consecutive segments of the batch axis.
      layers: Stop after this many layers, ReLU included: 0 returns x, 1 is
        where SimCLR v2 fine-tunes from (2006.10029, section 3.2).

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
        kernel_init=self.kernel_init,
        dtype=self.dtype,
        name=f'dense{i + 1}',
      )(x)
      norm = self.output_norm if last else self.hidden_norm
      if norm not in ('none', 'plain', 'scale', 'affine'):
        raise ValueError(
          f"norm '{norm}' of a head is unknown: none, plain, scale, affine."
        )
      if norm != 'none':
        x = normalization.BatchNorm(
          group=self.norm_group,
          use_scale=norm in ('scale', 'affine'),
          use_bias=norm == 'affine',
          name=f'norm{i + 1}',
        )(x, train=train, axis_name=axis_name, views=views)
      if not last:
        x = nn.relu(x)
    return x.astype(jnp.float32)
