import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.models import branches, heads
from tests import tiny


@pytest.fixture(scope='module')
def branch():
  encoder = tiny.make_encoder(tiny.config().encoder, 8)
  modules = {'encoder': encoder, 'projector': heads.MLP((8, 4))}
  images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
  params, stats = branches.init_branch(jax.random.key(0), modules, images)
  return modules, params, stats, images


def test_each_head_takes_the_output_of_the_one_before(branch):
  modules, params, stats, images = branch
  outputs, same = branches.run_branch(
    modules, params, stats, (images,), train=False
  )
  variables = {
    k: {'params': params[k], 'batch_stats': stats[k]} for k in modules
  }
  features = modules['encoder'].apply(variables['encoder'], images, train=False)
  z = modules['projector'].apply(variables['projector'], features, train=False)
  np.testing.assert_allclose(outputs['encoder'][0], features, rtol=1e-5)
  np.testing.assert_allclose(outputs['projector'][0], z, rtol=1e-5)
  assert same == stats


def test_one_pass_a_resolution_and_one_of_each_head(branch):
  modules, params, stats, images = branch
  small = images[:, 2:6, 2:6]
  views = (images, 2 * images, small, 3 * small)
  outputs, moved = branches.run_branch(
    modules, params, stats, views, train=True
  )
  assert [z.shape for z in outputs['projector']] == [(4, 4)] * 4

  running = stats['encoder']
  features = []
  for x in (jnp.concatenate(views[:2]), jnp.concatenate(views[2:])):
    y, updated = modules['encoder'].apply(
      {'params': params['encoder'], 'batch_stats': running},
      x,
      train=True,
      mutable=['batch_stats'],
    )
    running = updated['batch_stats']
    features.append(y)
  z, updated = modules['projector'].apply(
    {'params': params['projector'], 'batch_stats': stats['projector']},
    jnp.concatenate(features),
    train=True,
    mutable=['batch_stats'],
  )
  np.testing.assert_allclose(
    jnp.concatenate(outputs['projector']), z, rtol=1e-5, atol=1e-6
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    moved,
    {'encoder': running, 'projector': updated['batch_stats']},
  )


def test_statistics_of_other_modules_are_kept(branch):
  modules, params, stats, images = branch
  _, moved = branches.run_branch(
    {'encoder': modules['encoder']}, params, stats, (images,), train=True
  )
  assert moved['projector'] is stats['projector']
