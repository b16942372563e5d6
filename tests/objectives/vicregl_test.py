import jax
import numpy as np
import pytest

from contrastive_jax.config import Error
from contrastive_jax.data.split import source_from_arrays
from contrastive_jax.losses._vicregl import centers_of
from contrastive_jax.training import build, step
from tests import tiny
from tests.objectives.byol_test import batch_of_noise, loss_fn, make

LOCAL = {'augment.local_crops': 2, 'augment.local_size': 4}


def test_chance_is_the_loss_of_embeddings_and_maps_of_zero():
  for changes in ({}, LOCAL, {'objective.alpha': 0.4}):
    job = make('vicregl_small', **changes)
    state, batch = build.init_state(job), batch_of_noise(job)
    params = {
      **state.params,
      'projector': jax.tree.map(np.zeros_like, state.params['projector']),
      'map_projector': jax.tree.map(
        np.zeros_like, state.params['map_projector']
      ),
    }
    value, (_, metrics, _) = loss_fn(job, batch)(params, state.model_state, 0)
    np.testing.assert_allclose(value, job.objective.chance(8), rtol=1e-5)
    np.testing.assert_allclose(metrics['collapse_gauge'], 0.01, rtol=1e-3)


def test_where_a_view_was_matters():
  """Views from elsewhere in the image are matched with other places."""
  job = make('vicregl_small', **{'objective.matches': 2})
  state, batch = build.init_state(job), batch_of_noise(job)

  def place_loss(places):
    out = loss_fn(job, {**batch, 'places': places})(
      state.params, state.model_state, 0
    )
    return out[1][1]['place_loss']

  same = np.tile(np.float32([0, 0, 8, 8, 0]), (8, 1))
  moved = np.tile(np.float32([6, 6, 2, 2, 0]), (8, 1))
  assert place_loss((same, same)) != place_loss((same, moved))
  np.testing.assert_allclose(  # in other units nothing changes
    place_loss((same, moved)), place_loss((3 * same, 3 * moved)), rtol=1e-5
  )


def test_the_step_knows_where_its_views_were():
  """The boxes of the pipeline and the mirroring of the device are one image.

  A picture whose pixels say where they are, cropped and mirrored: what is left
  in each pixel of a view is the place that `places` gives it.
  """
  side = 64
  row, column = np.mgrid[:side, :side].astype(np.uint8) * 2
  images = np.stack([row, column, 0 * row], axis=-1)
  source = source_from_arrays(np.tile(images, (16, 1, 1, 1)))
  config = tiny.config_of('vicregl_small')
  config.batch_size = 16
  config.data.image_size = 16
  config.data.mean, config.data.std = (), ()
  config.augment.update(
    dict(jitter=0.0, grayscale=0.0, blur=(0.0, 0.0), solarize=(0.0, 0.0))
  )
  config.augment.flip = 0.5
  job = build.build(config, step.make_mesh(jax.devices()[:1]), source=source)
  batch = build.first_batch(job)
  mirrored = 0
  for view, places in zip(
    job.modality.views(batch), job.modality.places(batch), strict=True
  ):
    seen = np.asarray(view)[..., :2] * 255 / 2
    said = np.asarray(centers_of(places, 16, 16)).reshape(16, 16, 16, 2) - 0.5
    inner = np.s_[:, 2:-2, 2:-2]  # where nothing is interpolated at a border
    assert np.abs(seen[inner] - said[inner]).max() < 1.5
    mirrored += np.asarray(places)[:, 4].sum()
  assert 0 < mirrored < 32


def test_inputs_without_places_are_refused():
  job = make('vicregl_small')
  state, batch = build.init_state(job), batch_of_noise(job)
  del batch['places']
  with pytest.raises(Error, match='not those of pairs'):
    loss_fn(job, batch)(state.params, state.model_state, 0)


@pytest.mark.parametrize(
  ('changes', 'sentence'),
  [
    (
      {'encoder.name': 'resnet18', 'data.image_size': 8},
      'there is one: images',
    ),
    ({'encoder.name': 'tests.outside:tiny_convnet'}, 'that take maps=True'),
  ],
)
def test_encoders_without_places_are_refused(changes, sentence):
  with pytest.raises(Error, match=sentence):
    make('vicregl_small', **changes)
