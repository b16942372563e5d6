import jax
import numpy as np
import pytest

from contrastive_jax.config import Error
from contrastive_jax.models.mae_decoder import to_patches
from contrastive_jax.training import build
from tests.objectives.byol_test import batch_of_noise, loss_fn, make


def test_the_loss_is_that_of_hidden_patches_only():
  """Zero predictions: the mean of squares of the hidden patches' targets."""
  job = make('mae_small', **{'objective.normalize_pixels': False})
  state, batch = build.init_state(job), batch_of_noise(job)
  params = {**state.params, 'decoder': {**state.params['decoder']}}
  params['decoder']['pixels'] = jax.tree.map(
    np.zeros_like, params['decoder']['pixels']
  )
  value, (_, metrics, _) = loss_fn(job, batch)(params, state.model_state, 0)
  np.testing.assert_allclose(value, metrics['chance_loss'], rtol=1e-6)
  squares = np.square(to_patches(batch['views'][0], (4, 4))).mean(-1)
  # Twelve of the sixteen of each image, whichever they are.
  squares = np.sort(squares, axis=1)
  assert squares[:, :12].mean() <= value <= squares[:, 4:].mean()


def test_zero_is_chance_for_patches_that_are_not_constant():
  job = make('mae_small')
  state, batch = build.init_state(job), batch_of_noise(job)
  params = {**state.params, 'decoder': {**state.params['decoder']}}
  params['decoder']['pixels'] = jax.tree.map(
    np.zeros_like, params['decoder']['pixels']
  )
  value, _ = loss_fn(job, batch)(params, state.model_state, 0)
  assert job.objective.chance(8) == 0.75  # patches of 2 x 2, one channel
  np.testing.assert_allclose(value, 0.75, rtol=1e-3)


def test_hidden_pixels_do_not_reach_the_prediction():
  """The targets have no gradient: what has one is a quarter of the image."""
  job = make('mae_small')
  state, batch = build.init_state(job), batch_of_noise(job)
  batch['id'] = np.arange(8, dtype=np.int32)

  def loss(view):
    seen = {**batch, 'views': (view,)}
    return loss_fn(job, seen)(state.params, state.model_state, 0)[0]

  gradient = to_patches(jax.grad(loss)(batch['views'][0]), (4, 4))
  seen = np.any(np.asarray(gradient) != 0, axis=-1)
  np.testing.assert_array_equal(seen.sum(axis=1), [4] * 8)
  assert len(np.unique(seen, axis=0)) > 4  # not the same of all images


def test_patches_of_one_value_have_no_deviation():
  changes = {'encoder.patch_size': 1, 'objective.normalize_pixels': True}
  with pytest.raises(Error, match='for patches of more than one value'):
    make('mae_small', **changes)
  make('mae_small', **changes | {'objective.normalize_pixels': False})


def test_masks_are_of_example_and_epoch():
  job = make('mae_small')
  state, batch = build.init_state(job), batch_of_noise(job)
  values = [
    loss_fn(job, {**batch, 'epoch': batch['epoch'] + epoch})(
      state.params, state.model_state, 0
    )[0]
    for epoch in (0, 0, 1)
  ]
  assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(
  ('changes', 'sentence'),
  [
    ({'encoder.name': 'resnet18'}, 'MAE leaves out patches: encoder.name'),
    ({'encoder.pool': 'mean'}, 'set encoder.pool=token'),
    ({'objective.mask_ratio': 0.99}, 'shows 0 of 16 patches'),
    ({'objective.mask_ratio': 0.0}, 'shows 16 of 16 patches'),
    ({'objective.decoder_heads': 3}, 'multiple of 4 and of the 3'),
    (
      {'augment.blur': (0.0, 0.0), 'augment.solarize': (0.0, 0.0)},
      '1 global view ',
    ),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(Error, match=sentence):
    make('mae_small', **changes)
