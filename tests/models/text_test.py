"""The transformer of text: what is padded is not seen, and who sees whom."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.config import Error, base
from contrastive_jax.models import encoders

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(3, 50, (4, 10)).astype(np.int32)
LENGTH = np.array([10, 7, 3, 1], np.int32)


def encoder_of(**fields):
  config = base().encoder
  config.name, config.pool = '_text_micro', 'mean'
  config.update(fields)
  run = types.SimpleNamespace(input_shape=(16,), vocabulary=50)
  return encoders.make(config, run).module


def made(module, tokens=TOKENS, length=LENGTH, variables=None, **options):
  sentences = {'tokens': jnp.asarray(tokens), 'length': jnp.asarray(length)}
  if variables is None:
    variables = module.init(jax.random.key(0), sentences, train=False)
  features = module.apply(variables, sentences, **{'train': False, **options})
  return np.asarray(features), variables


@pytest.mark.parametrize('name', ['_text_micro', 'bert_tiny'])
@pytest.mark.parametrize(
  ('pool', 'causal'),
  [
    ('token', False),
    ('mean', False),
    ('mean', True),
    ('last', False),
    ('last', True),
  ],
)
def test_what_follows_a_sentence_changes_nothing(name, causal, pool):
  module = encoder_of(name=name, causal=causal, pool=pool)
  features, variables = made(module)
  padded = np.pad(TOKENS, ((0, 0), (0, 6)), constant_values=9)
  for row, n in zip(padded, LENGTH, strict=True):
    row[n:] = RNG.integers(0, 50, 16 - n)
  again, _ = made(module, padded, LENGTH, variables)
  np.testing.assert_allclose(again, features, atol=1e-5)
  # Nor does what a sentence is beside.
  alone, _ = made(module, TOKENS[2:3, :3], LENGTH[2:3], variables)
  np.testing.assert_allclose(alone[0], features[2], atol=1e-5)


def test_causal_tokens_see_those_before_them_alone():
  for causal in (True, False):
    # Not of a config, which may not ask for a first token that sees itself.
    module = encoder_of(pool='token').clone(causal=causal)
    features, variables = made(module)
    other = TOKENS.copy()
    other[:, 1:] = RNG.integers(3, 50, (4, 9))
    changed, _ = made(module, other, LENGTH, variables)
    # The first sees itself alone; of a sentence of one token there is no more.
    same = np.isclose(changed, features, atol=1e-6).all(axis=1)
    assert list(same) == ([True] * 4 if causal else [False] * 3 + [True])


def test_an_oracle_in_numpy():
  """Equations of pre-norm and post-norm blocks, one sentence at a time."""
  for name in ('_text_micro', 'bert_tiny'):
    module = encoder_of(name=name, pool='mean')
    features, variables = made(module)
    params = jax.tree.map(
      lambda x: np.asarray(x, np.float64), variables['params']
    )
    post = name == 'bert_tiny'

    def norm(x, p):
      x = x - x.mean(-1, keepdims=True)
      x /= np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
      return x * p['scale'] + p['bias']

    def linear(x, p):
      return x @ p['kernel'] + p['bias']

    def gelu(x):
      from scipy.special import ndtr

      return x * ndtr(x)

    def attention(x, p):
      q, k, v = (
        linear(x, p[n]).reshape(len(x), 2, -1).swapaxes(0, 1)
        for n in ('query', 'key', 'value')
      )
      logits = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
      weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
      y = (weights @ v).swapaxes(0, 1).reshape(len(x), -1)
      return linear(y, p['out'])

    def mlp(x, p):
      return linear(gelu(linear(x, p['dense1'])), p['dense2'])

    for row, n, found in zip(TOKENS, LENGTH, features, strict=True):
      x = params['token_embed'][row[:n]] + params['pos_embed'][:n]
      if post:
        x = norm(x, params['embed_norm'])
      for i in (1, 2):
        p = params[f'block{i}']
        if post:
          x = norm(x + attention(x, p['attn']), p['norm1'])
          x = norm(x + mlp(x, p['mlp']), p['norm2'])
        else:
          x = x + attention(norm(x, p['norm1']), p['attn'])
          x = x + mlp(norm(x, p['norm2']), p['mlp'])
      if not post:
        x = norm(x, params['norm'])
      np.testing.assert_allclose(found, x.mean(0), atol=2e-5)


def test_dropout_tells_the_views_of_a_sentence_apart():
  module = encoder_of(dropout=0.3)
  twice, lengths = np.tile(TOKENS, (2, 1)), np.tile(LENGTH, 2)
  _, variables = made(module, twice, lengths)

  def trained(key, views=2):
    features, _ = made(
      module,
      twice,
      lengths,
      variables,
      train=True,
      views=views,
      rngs={'dropout': jax.random.key(key)},
    )
    return features.reshape(2, 4, -1)

  first = trained(0)
  assert not np.any(np.isclose(first[0], first[1]).all(-1))
  np.testing.assert_array_equal(trained(0), first)
  assert not np.any(np.isclose(trained(1), first).all(-1))
  # Its mean is what there is without: over many draws of a one-layer sum.
  assert np.abs(first).mean() < 2 * np.abs(made(module)[0]).mean()


def test_a_share_of_the_numbers_is_dropped():
  """Of what is kept the mean stays 1, and no two rows have one mask."""
  from contrastive_jax.models import text

  class Module(text.nn.Module):
    @text.nn.compact
    def __call__(self):
      drop = text.Dropout(self, 0.25, 8, None, 2)
      return drop.masks([(100, 50), (3,)], 1) + drop.masks([(100, 50)], 2)

  wide, _, other = Module().apply({}, rngs={'dropout': jax.random.key(0)})
  assert set(np.unique(wide)) == {0, np.float32(1 / 0.75)}
  np.testing.assert_allclose(np.mean(wide, (1, 2)), 1, atol=0.03)
  rows = [*np.asarray(wide), *np.asarray(other)]
  for i, one in enumerate(rows):
    for two in rows[i + 1 :]:
      assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.06


def test_an_encoder_of_text_and_images():
  run = types.SimpleNamespace(input_shape=(8, 8, 1), vocabulary=0)
  config = base().encoder
  config.name = 'text_tiny'
  with pytest.raises(Error, match='takes text, and the data has none'):
    encoders.make(config, run)


@pytest.mark.parametrize(
  ('name', 'count'),
  # BERT's published sizes, less its pooler (D^2 + D) and the second row of its
  # types (D): 1908.08962, table 1, and google-research/bert.
  [
    ('bert_tiny', 4_385_920 - 128 * 129 - 2 * 128),
    ('bert_base', 109_482_240 - 768 * 769 - 2 * 768),
  ],
)
def test_as_many_parameters_as_bert(name, count):
  config = base().encoder
  config.name, config.pool = name, 'token'
  run = types.SimpleNamespace(input_shape=(512,), vocabulary=30522)
  module = encoders.make(config, run).module
  sentences = {
    'tokens': jnp.zeros((1, 4), jnp.int32),
    'length': jnp.ones((1,), jnp.int32),
  }
  shapes = jax.eval_shape(
    lambda: module.init(jax.random.key(0), sentences, train=False)
  )
  assert sum(x.size for x in jax.tree.leaves(shapes)) == count


def test_parameters_begin_as_those_of_clip_or_bert():
  """openai/CLIP, clip/model.py, initialize_parameters; BERT: 0.02."""
  width, depth = 128, 2
  wanted = {
    'token_embed': 0.02,
    'pos_embed': 0.01,
    'query': width**-0.5,
    'out': width**-0.5 * (2 * depth) ** -0.5,
    'dense1': (2 * width) ** -0.5,
    'dense2': width**-0.5 * (2 * depth) ** -0.5,
  }
  for name, clip in (('text_tiny', True), ('bert_tiny', False)):
    _, variables = made(encoder_of(name=name))
    params = variables['params']
    block = params['block2']
    found = {
      'token_embed': params['token_embed'],
      'pos_embed': params['pos_embed'],
      'query': block['attn']['query']['kernel'],
      'out': block['attn']['out']['kernel'],
      'dense1': block['mlp']['dense1']['kernel'],
      'dense2': block['mlp']['dense2']['kernel'],
    }
    for key, kernel in found.items():
      std = wanted[key] if clip else 0.02
      assert np.std(kernel) == pytest.approx(std, rel=0.05), (name, key)
