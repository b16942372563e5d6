"""Rates by layer: the factors of each parameter, and the updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import config as config_lib
from contrastive_jax.training import layer_rates, optim
from tests import tiny


def optimizer_config(**fields):
  c = config_lib.base().optimizer
  c.update(fields)
  return c


def shapes(name, image_size=64, **fields):
  c = config_lib.base().encoder
  c.update(dict(name=name, **fields))
  module = tiny.make_encoder(c, image_size)
  images = np.zeros((1, image_size, image_size, 3), np.float32)
  init = jax.eval_shape(
    lambda: module.init(jax.random.key(0), images, train=False)
  )
  return {'encoder': init['params'], 'projector': {'kernel': np.zeros((2, 2))}}


def one_each(config, params):
  """The factor of each entry of the encoder, all of whose parameters agree."""
  found = layer_rates.factors(config, params)
  assert set(jax.tree.leaves(found['projector'])) == {1.0}
  entries = {}
  for name, tree in found['encoder'].items():
    (entries[name],) = set(jax.tree.leaves(tree))
  return entries


def test_a_vit_of_twelve_blocks():
  """The values of DINOv2's rule: decay 0.9, patches at a fifth."""
  config = optimizer_config(layer_decay=0.9, patch_rate=0.2)
  found = one_each(config, shapes('vit_tiny', registers=1, patch_size=16))
  expected = {
    'cls_token': 0.254187,
    'pos_embed': 0.254187,
    'registers': 0.254187,
    'patch_embed': 0.050837,
    'block1': 0.282430,
    'block12': 0.9,
    'norm': 1.0,
  }
  assert found.keys() >= expected.keys()
  for name, factor in expected.items():
    np.testing.assert_allclose(found[name], factor, atol=1e-6)


def test_a_mask_token_learns_as_the_patches_that_it_replaces():
  config = optimizer_config(layer_decay=0.9, patch_rate=0.2, encoder_rate=0.5)
  params = shapes('vit_tiny', patch_size=16)
  params['mask_token'] = np.zeros((1, 192))
  factor = layer_rates.factors(config, params)['mask_token']
  np.testing.assert_allclose(factor, 0.5 * 0.254187, atol=1e-6)


@pytest.mark.parametrize('name', ['resnet18', 'convnext_tiny'])
def test_blocks_of_stages_are_counted_through(name):
  found = one_each(optimizer_config(layer_decay=0.5), shapes(name))
  blocks = [entry for entry in found if 'block' in entry]
  last = max(blocks)
  assert found['stem_conv'] == 0.5 ** (len(blocks) + 1)
  assert found['stage1_block1'] == 0.5 ** len(blocks)
  assert found[last] == 0.5
  assert found['stage2_block1'] == 2 * found['stage1_block2'] * (
    2 if name == 'convnext_tiny' else 1
  )
  if name == 'convnext_tiny':
    assert found['stage2_conv'] == found['stage2_block1']
    assert found['norm'] == 1.0


@pytest.mark.parametrize('name', ['adamw', 'sgd', 'lars'])
@pytest.mark.parametrize('frozen', [(), ('projector',)])
def test_the_updates_are_scaled(name, frozen):
  """Those of the same optimizer without, times the factor."""
  rng = np.random.default_rng(0)
  params = {
    'encoder': {
      part: {'kernel': jnp.asarray(rng.normal(size=(3, 3)), jnp.float32)}
      for part in ('patch_embed', 'block1', 'block2', 'norm')
    },
    'projector': {'kernel': jnp.ones((3, 2))},
  }
  gradients = jax.tree.map(lambda p: jnp.cos(p), params)

  def update(**fields):
    config = optimizer_config(
      name=name, frozen=frozen, frozen_epochs=5.0 * bool(frozen), **fields
    )
    optimizer = optim.make_optimizer(
      config, lambda _: 0.1, peak=0.1, total_steps=9, steps_per_epoch=1
    )
    return config, optimizer.update(gradients, optimizer.init(params), params)[
      0
    ]

  _, plain = update()
  config, scaled = update(encoder_rate=0.5, layer_decay=0.8, patch_rate=0.1)
  factors = layer_rates.factors(config, params)
  assert factors['encoder']['patch_embed']['kernel'] == 0.5 * 0.8**3 * 0.1
  jax.tree.map(
    lambda a, b, f: np.testing.assert_allclose(a, f * b, rtol=1e-6),
    scaled,
    plain,
    factors,
  )
  table = optim.parameter_groups(config, params, steps_per_epoch=1)
  assert 'rate x 0.0256' in table and 'rate x 0.5' in table
  assert ('frozen until step 5' in table) == bool(frozen)
