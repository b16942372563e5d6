"""The variants of SimCLR."""

import jax
import numpy as np
import pytest

from contrastive_jax.losses._dcl import dcl
from contrastive_jax.training import build, step
from tests import tiny


def make(**changes):
  config = tiny.config_of('dcl_small')
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]))


@pytest.mark.parametrize(
  'variant, reduction, sigma, scale',
  [('dcl', 'mean', None, 1), ('dclw', 'sum', 0.5, 2)],
)
def test_variant_is_the_loss_of_that_name(variant, reduction, sigma, scale):
  job = make(
    **{'objective.variant': variant, 'objective.loss_reduction': reduction}
  )
  state = build.init_state(job)
  rng = np.random.default_rng(0)
  batch = build.example_batch(job, 8)
  batch['views'] = tuple(
    rng.uniform(size=view.shape).astype(np.float32) for view in batch['views']
  )

  @jax.jit
  def loss(params):
    return job.objective.loss(
      params,
      state.model_state,
      batch,
      rng=jax.random.key(0),
      step=np.int32(0),
      axis_name=None,
    )

  value, (_, metrics, embeddings) = loss(state.params)
  expected = dcl(*embeddings, temperature=0.2, weight_sigma=sigma)
  np.testing.assert_allclose(value, scale * expected, rtol=1e-5)
  # The bound on mutual information is NT-Xent's alone.
  assert not any('mutual_information' in name for name in metrics)

  zeros = jax.tree.map(lambda x: 0 * x, state.params['projector'])
  value, _ = loss({**state.params, 'projector': zeros})
  np.testing.assert_allclose(value, job.objective.chance(8), rtol=1e-5)


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'objective.variant': 'dlc'}, "not 'dlc'"),
    ({'objective.dclw_sigma': 0.0}, 'must be above 0'),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(ValueError, match=sentence):
    make(**changes)
