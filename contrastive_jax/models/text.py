"""Transformer of text: pre-norm, or post-norm as BERT and MiniLM are."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax.config import Error
from contrastive_jax.models import blocks, microbatch
from contrastive_jax.models.encoders import Encoder

# Width, blocks, attention heads (BERT: 1810.04805, 1908.08962; MiniLM:
# 2002.10957).
_SIZES = {
  'tiny': (128, 2, 2),
  'mini': (256, 4, 4),
  'small': (512, 4, 8),
  'medium': (512, 8, 8),
  'base': (768, 12, 12),
}
# By name: size, and whether norms follow the branches.
_NAMES = {
  **{f'text_{name}': (size, False) for name, size in _SIZES.items()},
  **{f'bert_{name}': (size, True) for name, size in _SIZES.items()},
  'minilm_l6': ((384, 6, 12), True),
  'minilm_l12': ((384, 12, 12), True),
  '_text_micro': ((32, 2, 2), False),  # for tests
}
ENCODERS = tuple(_NAMES)

_TOKENS = nn.initializers.normal(0.02)


class Inits(NamedTuple):
  """What parameters begin at: positions, and the matrices of a block."""

  positions: nn.initializers.Initializer
  attention: nn.initializers.Initializer  # of queries, keys and values
  hidden: nn.initializers.Initializer  # of the perceptron
  output: nn.initializers.Initializer  # of what is added to the sum


def initializers(width: int, depth: int, post_norm: bool) -> Inits:
  """Returns those of BERT (post-norm), or of CLIP's tower of text.

  Args:
    width: of a token.
    depth: number of blocks.
    post_norm: see `TextEncoder`.

  Reference: google-research/bert, modeling.py; openai/CLIP, clip/model.py,
  initialize_parameters.
  """
  normal = nn.initializers.normal
  if post_norm:
    return Inits(*[normal(0.02)] * 4)
  return Inits(
    positions=normal(0.01),
    attention=normal(width**-0.5),
    hidden=normal((2 * width) ** -0.5),
    output=normal((2 * width * depth) ** -0.5),
  )


# BERT's; with it a token of equal numbers stays 0.
_layer_norm = functools.partial(blocks.layer_norm, epsilon=1e-12)
_POOLS = ('token', 'mean', 'last')


class Dropout:
  """Draws for each example by its place in the global batch, and its view.

  So the draw depends neither on the number of devices nor on `microbatch`, and
  the views of a sentence have different ones within one pass.

  Reference: Srivastava et al. 2014; Gao et al. 2021 (SimCSE, 2104.08821),
  section 3.
  """

  def __init__(
    self,
    module: nn.Module,
    rate: float,
    rows: int,
    axis_name: str | None,
    views: int,
  ):
    """Takes the key of a pass.

    Args:
      module: outermost of the encoder, with the random stream 'dropout'.
      rate: probability that a number becomes 0.
      rows: of this device, over all views.
      axis_name: the mapped axis of the devices; None for one device.
      views: equal consecutive segments of the rows.
    """
    key, self._rate = module.make_rng('dropout'), rate
    places = microbatch.places(module, rows, axis_name, views)
    view = jnp.repeat(jnp.arange(views), rows // views)

    def own(place, view):
      return jax.random.fold_in(jax.random.fold_in(key, place), view)

    self._keys = jax.vmap(own)(places, view)

  def masks(self, shapes: Sequence[tuple[int, ...]], number: int) -> list[Any]:
    """Returns what to multiply by: 0, or 1 / (1 - rate).

    Args:
      shapes: of an example, one a mask.
      number: of the block, from 0.
    """

    def draw(key):
      return [
        jax.random.bernoulli(
          jax.random.fold_in(key, 8 * number + i), 1 - self._rate, shape
        )
        / (1 - self._rate)
        for i, shape in enumerate(shapes)
      ]

    return jax.vmap(draw)(self._keys)


class _Attention(nn.Module):
  """Each token takes means of those that it sees."""

  heads: int
  dtype: jnp.dtype
  inits: Inits

  @nn.compact
  def __call__(self, x, seen, keep):
    batch, tokens, width = x.shape

    def linear(name, init):
      return nn.Dense(width, dtype=self.dtype, kernel_init=init, name=name)

    query, key, value = (
      linear(name, self.inits.attention)(x).reshape(
        batch, tokens, self.heads, -1
      )
      for name in ('query', 'key', 'value')
    )
    logits = jnp.einsum(
      'bqhd,bkhd->bhqk', query, key, preferred_element_type=jnp.float32
    )
    logits *= query.shape[-1] ** -0.5
    # Finite: a sentence of no tokens would have no mean otherwise.
    weights = jax.nn.softmax(jnp.where(seen, logits, -1e30))
    if keep is not None:
      weights *= keep
    x = jnp.einsum('bhqk,bkhd->bqhd', weights.astype(self.dtype), value)
    return linear('out', self.inits.output)(x.reshape(batch, tokens, width))


class Block(nn.Module):
  """Attention over tokens, then a perceptron on each; both are added."""

  heads: int
  post_norm: bool
  dtype: jnp.dtype
  inits: Inits

  @nn.compact
  def __call__(
    self, x: jax.Array, seen: jax.Array, *keep: jax.Array | None
  ) -> jax.Array:
    """Maps tokens to tokens.

    Args:
      x: [b, tokens, width], float32.
      seen: [b, 1, tokens or 1, tokens], bool: which token sees which.
      *keep: what attention [b, heads, tokens, tokens] and the two branches
        [b, tokens, width] are multiplied by; None: nothing.

    Returns:
      Like x.
    """
    attention = _Attention(self.heads, self.dtype, self.inits, name='attn')
    mlp = blocks.perceptron(
      x.shape[-1],
      self.dtype,
      self.inits.hidden,
      name='mlp',
      output_init=self.inits.output,
    )
    branches = (
      lambda y: attention(y, seen, keep[0]),
      lambda y: mlp(y, train=False),
    )
    for i, branch in enumerate(branches, 1):
      norm = _layer_norm(name=f'norm{i}')
      y = branch(x if self.post_norm else norm(x)).astype(jnp.float32)
      if (mask := keep[i]) is not None:
        y = y * mask
      x = norm(x + y) if self.post_norm else x + y
    return x


class TextEncoder(nn.Module):
  """Sentences to features: a transformer without a language model's head.

  Parameters, and the names of BERT where they differ:

    token_embed [V, D]          embeddings.word_embeddings
    pos_embed [L, D]            embeddings.position_embeddings, with the first
                                row of token_type_embeddings added
    embed_norm (post-norm)      embeddings.LayerNorm
    block{i+1}/                 encoder.layer.i.
      attn/query, key, value    attention.self.query, key, value
      attn/out                  attention.output.dense
      norm1, norm2              attention.output.LayerNorm, output.LayerNorm
      mlp/dense1, dense2        intermediate.dense, output.dense
    norm (pre-norm)

  Attributes:
    vocabulary: Numbers that a token may be, V.
    longest: Tokens of a sentence, L.
    width: Of a token, D.
    depth: Number of blocks.
    heads: Of the attention; they divide the width.
    post_norm: Whether norms follow the sums, as in BERT, or precede the
      branches (Xiong et al. 2020, 2002.04745).
    causal: Whether a token sees those before it alone.
    pool: The feature is that of the first 'token' (BERT's [CLS]), the 'mean'
      over the sentence's tokens, or of the 'last' of them (CLIP).
    dropout: Probability, of embeddings, attention and branches, as BERT's.
    dtype: Of the matrix products; parameters, sums, norms, softmax and features
      are float32.
    remat: Whether activations inside of blocks are computed again for the
      gradient: less memory, more time.
  """

  vocabulary: int
  longest: int
  width: int
  depth: int
  heads: int
  post_norm: bool = False
  causal: bool = False
  pool: str = 'mean'
  dropout: float = 0.1
  dtype: jnp.dtype = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(
    self,
    sentences: dict[str, jax.Array],
    *,
    train: bool,
    axis_name: str | None = None,
    views: int = 1,
  ) -> jax.Array:
    """Computes the features of sentences.

    Args:
      sentences: 'tokens', int32 [b, n], n at most `longest`; 'length', int32
        [b], how many of them are of the sentence. What follows is not seen.
      train: Whether there is dropout, nothing else; it needs the random stream
        'dropout', the same on all devices.
      axis_name: The mapped axis of the devices; None for one device.
      views: Equal consecutive segments of the batch axis.

    Returns:
      [b, width], float32.

    Reference: Vaswani et al. 2017 (1706.03762), section 3; Devlin et al. 2018
    (BERT, 1810.04805), section 3.
    """
    tokens, length = sentences['tokens'], sentences['length']
    rows, count = tokens.shape
    init = initializers(self.width, self.depth, self.post_norm)
    table = self.param(
      'token_embed', _TOKENS, (self.vocabulary, self.width), jnp.float32
    )
    positions = self.param(
      'pos_embed', init.positions, (self.longest, self.width), jnp.float32
    )
    # Not `table[tokens]`: exported, the table is an array of NumPy.
    x = jnp.take(table, tokens, axis=0) + positions[:count]
    if self.post_norm:
      x = _layer_norm(name='embed_norm')(x)

    own = jnp.arange(count) < length[:, None]
    seen = own[:, None, None, :]
    if self.causal:
      seen &= jnp.tril(jnp.ones((count, count), bool))

    drop, wide = None, (count, self.width)
    # A target network in training mode has no random stream, and sees all.
    if train and self.dropout and self.has_rng('dropout'):
      drop = Dropout(self, self.dropout, rows, axis_name, views)
      x = x * drop.masks([wide], 0)[0]
    shapes = [(self.heads, count, count), wide, wide]
    block: Any = nn.remat(Block) if self.remat else Block
    for i in range(1, self.depth + 1):
      keep = drop.masks(shapes, i) if drop else [None] * 3
      x = block(self.heads, self.post_norm, self.dtype, init, name=f'block{i}')(
        x, seen, *keep
      )
    if not self.post_norm:
      x = _layer_norm(name='norm')(x)
    if self.pool == 'token':
      return x[:, 0]
    if self.pool == 'last':
      return x[jnp.arange(rows), jnp.maximum(length - 1, 0)]
    total = jnp.sum(jnp.where(own[..., None], x, 0), axis=1)
    return total / jnp.maximum(length, 1)[:, None]


def make(config: Any, run: Any) -> Encoder:
  """Builds the encoder that a config describes.

  Args:
    config: The config's `encoder`; `pool`, `causal`, `dropout`, `depth` and
      `heads` (0: as many as are usual for the size), `dtype` and `remat` are
      used.
    run: Its `input_shape` is (most tokens of a sentence,), its `vocabulary` how
      many numbers a token may be.

  Returns:
    An encoder, whose parameters do not exist yet.

  Raises:
    Error: an unknown value, heads that do not divide the width, or data that is
      not text.
  """
  (width, usual_depth, usual_heads), post_norm = _NAMES[config.name]
  blocks.check(config, pool=_POOLS)
  if not run.vocabulary:
    raise Error(
      f'{config.name} takes text, and the data has none: give a source such as '
      'text:FILE, or an encoder of images'
    )
  heads = config.heads or usual_heads
  if width % heads:
    raise Error(
      f'encoder.heads is {heads}, which does not divide the width of '
      f'{config.name}, {width}.'
    )
  if config.causal and config.pool == 'token':
    raise Error(
      'the first token of a causal encoder sees itself alone, which is alike '
      'in all sentences: set pool=last'
    )
  if config.drop_path:
    raise Error(
      f'drop_path is {config.drop_path:g}, and {config.name} has none: it has '
      'dropout'
    )
  if not 0 <= config.dropout < 1:
    raise Error(
      f'encoder.dropout is {config.dropout}: it must be at least 0 and below 1.'
    )
  module = TextEncoder(
    vocabulary=run.vocabulary,
    longest=run.input_shape[0],
    width=width,
    depth=config.depth or usual_depth,
    heads=heads,
    post_norm=post_norm,
    causal=config.causal,
    pool=config.pool,
    dropout=config.dropout,
    dtype=jnp.dtype(config.dtype),
    remat=config.remat == 'blocks',
  )
  return Encoder(module, features=width, dtype=module.dtype)
