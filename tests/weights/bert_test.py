"""BERT's weights: names, what is folded, and what does not fit."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from contrastive_jax.config import Error, base
from contrastive_jax.models import encoders
from contrastive_jax.weights import load

RNG = np.random.default_rng(0)
D, V, LONGEST = 128, 60, 24


def state_dict(prefix='', norm=('weight', 'bias')):
  """Of BERT-Tiny, at random numbers."""

  def linear(name, rows, columns):
    return {
      f'{name}.weight': RNG.normal(size=(rows, columns)),
      f'{name}.bias': RNG.normal(size=rows),
    }

  def layer_norm(name):
    return {f'{name}.LayerNorm.{n}': RNG.normal(size=D) for n in norm}

  found = {
    'embeddings.position_ids': np.arange(LONGEST)[None],
    'embeddings.word_embeddings.weight': RNG.normal(size=(V, D)),
    'embeddings.position_embeddings.weight': RNG.normal(size=(LONGEST, D)),
    'embeddings.token_type_embeddings.weight': RNG.normal(size=(2, D)),
    **layer_norm('embeddings'),
    **linear('pooler.dense', D, D),
  }
  for i in range(2):
    layer = f'encoder.layer.{i}'
    for name in ('query', 'key', 'value'):
      found |= linear(f'{layer}.attention.self.{name}', D, D)
    found |= linear(f'{layer}.attention.output.dense', D, D)
    found |= layer_norm(f'{layer}.attention.output')
    found |= linear(f'{layer}.intermediate.dense', 4 * D, D)
    found |= linear(f'{layer}.output.dense', D, 4 * D)
    found |= layer_norm(f'{layer}.output')
  return {f'{prefix}{k}': np.asarray(v, np.float32) for k, v in found.items()}


def loaded(tmp_path, arrays, vocabulary=V, longest=16):
  path = tmp_path / 'model.safetensors'
  safetensors.numpy.save_file(arrays, path)
  config = base().encoder
  config.name, config.init, config.pool = 'bert_tiny', str(path), 'mean'
  run = types.SimpleNamespace(input_shape=(longest,), vocabulary=vocabulary)
  module = encoders.make(config, run).module
  sentences = {
    'tokens': jnp.zeros((1, 4), jnp.int32),
    'length': jnp.ones((1,), jnp.int32),
  }
  shapes = jax.eval_shape(
    lambda: module.init(jax.random.key(0), sentences, train=False)
  )['params']
  names = {
    '/'.join(entry.key for entry in path): leaf.shape
    for path, leaf in jax.tree.leaves_with_path(shapes)
  }
  return load.load(config, base().data, module, names)


@pytest.mark.parametrize('prefix', ['', 'bert.'])
@pytest.mark.parametrize('norm', [('weight', 'bias'), ('gamma', 'beta')])
def test_names_of_several_days(tmp_path, prefix, norm):
  arrays = state_dict(prefix, norm)
  found = loaded(tmp_path, arrays)
  theirs = {k.removeprefix(prefix): v for k, v in arrays.items()}

  def same(ours, array):
    np.testing.assert_array_equal(found.arrays[ours], array)

  same('token_embed', theirs['embeddings.word_embeddings.weight'])
  same(
    'pos_embed',
    theirs['embeddings.position_embeddings.weight'][:16]
    + theirs['embeddings.token_type_embeddings.weight'][0],
  )
  layer = 'encoder.layer.1'
  same('block2/attn/key/kernel', theirs[f'{layer}.attention.self.key.weight'].T)
  same('block2/attn/out/bias', theirs[f'{layer}.attention.output.dense.bias'])
  same(
    'block2/mlp/dense1/kernel', theirs[f'{layer}.intermediate.dense.weight'].T
  )
  same(
    'block2/norm1/scale',
    theirs[f'{layer}.attention.output.LayerNorm.{norm[0]}'],
  )
  same('block2/norm2/bias', theirs[f'{layer}.output.LayerNorm.{norm[1]}'])
  same('embed_norm/scale', theirs[f'embeddings.LayerNorm.{norm[0]}'])
  assert 'read as of bert' in found.notes[0]
  assert any('pooler.dense.weight' in note for note in found.notes)


@pytest.mark.parametrize(
  ('options', 'said'),
  [
    ({'vocabulary': 61}, 'text.tokenizer has to be the tokenizer.json'),
    ({'longest': 32}, 'at most 24 tokens: set text.max_length'),
  ],
)
def test_what_does_not_fit(tmp_path, options, said):
  with pytest.raises(Error, match=said):
    loaded(tmp_path, state_dict(), **options)


def test_a_layer_more(tmp_path):
  arrays = state_dict()
  arrays |= {
    k.replace('layer.1.', 'layer.2.'): v
    for k, v in arrays.items()
    if 'layer.1.' in k
  }
  with pytest.raises(Error, match='in the file alone, 16: encoder.layer'):
    loaded(tmp_path, arrays)
