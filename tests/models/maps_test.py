"""What encoders say of places in an image, and what a ViT is not shown."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.config import base
from contrastive_jax.models import branches, encoders, mae_decoder


def make(name, side=16, **fields):
  """The encoder, random parameters and statistics, and images."""
  config = base().encoder
  config.update(dict(name=name, width=8, patch_size=4, **fields))
  run = types.SimpleNamespace(input_shape=(side, side, 3))
  encoder = encoders.make(config, run)
  rng = np.random.default_rng(0)
  images = rng.normal(size=(6, side, side, 3)).astype(np.float32)
  variables = encoder.module.init(jax.random.key(0), images, train=False)
  params = jax.tree.map(
    lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32),
    variables['params'],
  )
  return encoder, {**variables, 'params': params}, images


@pytest.mark.parametrize(
  ('name', 'fields', 'shape'),
  [
    ('_tiny', {}, (8, 8, 16)),
    ('_convnext_micro', {}, (2, 2, 16)),
    ('_vit_micro', {}, (4, 4, 32)),
    ('_vit_micro', {'pool': 'mean', 'registers': 2}, (4, 4, 32)),
  ],
)
def test_features_are_the_same_with_maps(name, fields, shape):
  encoder, variables, images = make(name, **fields)
  alone = encoder.module.apply(variables, images, train=False)
  features, maps = encoder.module.apply(
    variables, images, train=False, maps=True
  )
  np.testing.assert_array_equal(features, alone)
  assert maps.shape == (6, *shape) and maps.dtype == jnp.float32
  if name == '_tiny':  # there is nothing behind the mean
    np.testing.assert_allclose(maps.mean((1, 2)), features, rtol=1e-5)


def test_a_map_follows_the_image():
  """What changes in a corner changes the map of a ResNet there, not far off."""
  encoder, variables, images = make('_tiny', side=32)

  def maps(images):
    _, maps = encoder.module.apply(variables, images, train=False, maps=True)
    return maps

  images = images.copy()
  before = maps(images)
  images[:, :4, :4] += 1
  moved = np.abs(maps(images) - before).max((0, 3)) > 0
  assert moved[0, 0] and not moved[-1].any() and not moved[:, -1].any()


def test_only_masked_patches_are_replaced():
  encoder, variables, images = make('_vit_micro')
  masked = np.zeros((6, 16), bool)
  masked[:, 5] = True
  token = np.full(32, 0.7, np.float32)

  def features(images, **options):
    return encoder.module.apply(variables, images, train=False, **options)

  out = features(images, masked=masked, mask_token=token)
  hidden = images.copy()
  hidden[:, 4:8, 4:8] += 9  # patch 5
  other = features(hidden, masked=masked, mask_token=token)
  np.testing.assert_array_equal(out, other)
  assert np.all(np.any(features(hidden) != features(images), axis=1))
  # All masked: the position is what is left of an image.
  everything = features(images, masked=np.ones((6, 16), bool), mask_token=token)
  np.testing.assert_allclose(
    everything, np.broadcast_to(everything[:1], everything.shape), rtol=1e-5
  )


def test_only_visible_patches_are_seen_and_in_any_order():
  encoder, variables, images = make('_vit_micro', registers=1)

  def run(images, visible):
    return encoder.module.apply(
      variables, images, train=False, maps=True, visible=visible
    )

  visible = jnp.tile(jnp.array([3, 8, 14]), (6, 1))
  features, tokens = run(images, visible)
  assert tokens.shape == (6, 3, 32)
  elsewhere = images.copy()
  elsewhere[:, 4:8, 4:8] += 9  # patch 5
  np.testing.assert_array_equal(run(elsewhere, visible)[0], features)
  turned = run(images, visible[:, ::-1])
  np.testing.assert_allclose(turned[0], features, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(turned[1][:, ::-1], tokens, rtol=1e-4, atol=1e-5)
  # All of them: as if nothing were said.
  whole = run(images, jnp.tile(jnp.arange(16), (6, 1)))
  plain = encoder.module.apply(variables, images, train=False, maps=True)
  np.testing.assert_allclose(whole[0], plain[0], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    whole[1], plain[1].reshape(6, 16, 32), rtol=1e-5, atol=1e-6
  )


def test_run_maps_is_a_pass_of_all_views():
  encoder, variables, images = make('_tiny')
  views = images[:3], images[3:]
  (features, maps), stats = branches.run_maps(
    encoder.module,
    {'encoder': variables['params']},
    {'encoder': variables['batch_stats'], 'projector': {}},
    views,
    train=True,
  )
  outputs, expected = branches.run_branch(
    {'encoder': encoder.module},
    {'encoder': variables['params']},
    {'encoder': variables['batch_stats']},
    views,
    train=True,
  )
  for ours, theirs in zip(features, outputs['encoder'], strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  assert [m.shape for m in maps] == [(3, 8, 8, 16)] * 2
  jax.tree.map(
    np.testing.assert_allclose, stats['encoder'], expected['encoder']
  )


def test_patches_are_cut_by_row_column_and_channel():
  images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  patches = mae_decoder.to_patches(jnp.asarray(images), (2, 3))
  assert patches.shape == (2, 6, 12)
  for number in range(6):
    row, column = divmod(number, 3)
    cut = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
    np.testing.assert_array_equal(patches[:, number], cut.reshape(2, 12))


def test_the_decoder_puts_patches_back_in_their_places():
  """A decoder without blocks says of a patch what its own token says."""
  decoder = mae_decoder.Decoder(16, 1, 2, (2, 2), 5)
  order = jnp.array([[2, 0, 1, 3], [1, 3, 0, 2]])
  rng = np.random.default_rng(0)
  features = rng.normal(size=(2, 8)).astype(np.float32)
  tokens = rng.normal(size=(2, 2, 8)).astype(np.float32)
  variables = decoder.init(jax.random.key(0), features, tokens, order)
  params = dict(variables['params'])
  for part in ('attn', 'mlp'):
    params['block1'] = {
      **params['block1'],
      part: jax.tree.map(np.zeros_like, params['block1'][part]),
    }
  params['mask_token'] = jnp.zeros((1, 16))

  def out(tokens):
    return np.asarray(
      decoder.apply({'params': params}, features, tokens, order)
    )

  assert out(tokens).shape == (2, 4, 5)
  moved = tokens.copy()
  moved[0, 0] += 1  # the image's patch 2
  changed = np.any(out(moved) != out(tokens), axis=-1)
  np.testing.assert_array_equal(
    changed, [[False, False, True, False], [False] * 4]
  )
