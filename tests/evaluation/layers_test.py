"""The layers that images can be embedded by."""

import jax
import numpy as np
import pytest

from contrastive_jax.evaluation import encoder
from contrastive_jax.models import branches
from contrastive_jax.training import build
from tests import tiny


@pytest.mark.parametrize('name', ['byol', 'dino', 'swav', 'supervised'])
def test_the_layers_of_objectives(name):
  """The head's output has its own width; DINO's is the teacher's."""
  job = build.build(tiny.config_of(f'{name}_small'))
  state = build.init_state(job)
  images = np.zeros((2, *job.run.input_shape), np.uint8)
  if name == 'supervised':
    with pytest.raises(
      ValueError, match='supervised has no projector; .*: cla'
    ):
      encoder.frozen(job, 'projector')
    return
  images[1] = 255
  width = job.config.objective.projector_output_size
  encode = encoder.frozen(job, 'projector')(state)
  found = jax.jit(lambda encode, images: encode(images))(encode, images)
  assert found.shape == (2, width)
  # As in training, from the parameters that are evaluated.
  objective = job.objective
  params, model_state = objective.evaluated(state.params, state.model_state)
  outputs, _ = branches.run_branch(
    {key: objective.modules[key] for key in ('encoder', 'projector')},
    params,
    model_state['batch_stats'],
    [job.modality.frozen_input(images)],
    train=False,
  )
  np.testing.assert_allclose(found, outputs['projector'][0], atol=1e-5)
