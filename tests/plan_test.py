"""What is said of a step's memory, before it runs."""

import jax
import numpy as np
import pytest

from contrastive_jax import plan
from contrastive_jax.config import Error
from contrastive_jax.training import build, memory, step
from tests import tiny

# Of ml_collections, as it loads a file.
pytestmark = pytest.mark.filterwarnings(
  'ignore:the load_module:DeprecationWarning'
)


@pytest.fixture(scope='module')
def mesh():
  return step.make_mesh(jax.devices()[:2])


def _needs(config, mesh):
  source = memory.stand_in(config, images=5, classes=2, channels=3)
  return memory.needs(config, source, mesh)


def test_parts_are_those_of_the_run(mesh):
  config = tiny.config_of('moco_small')
  job = build.build(config, mesh)
  state, batch = build.init_state(job), build.first_batch(job)
  needs = _needs(config, mesh)

  def size(tree):
    return sum(np.asarray(x).nbytes for x in jax.tree.leaves(tree))

  assert needs.parameters == size(state.params)
  assert needs.optimizer == size(state.opt_state)
  assert needs.queue == state.model_state['queue'].nbytes
  assert needs.state + needs.queue == size(state.model_state)
  assert needs.input == size(batch) // 2
  assert needs.total == sum(needs[:7])
  activations = 64 // 2 * 8 * 8 * config.encoder.width * 4  # of one layer
  assert needs.temporary > 3 * activations


def test_the_largest_fits_and_twice_as_much_does_not(mesh):
  config = tiny.get_config()
  limit = _needs(config, mesh).total + 1000  # at 64 images
  source = memory.stand_in(config, images=0, classes=0, channels=0)
  found = memory.largest(config, source, mesh, 'batch_size', limit)
  assert found is not None and found[0] == 64
  assert memory.largest(config, source, mesh, 'batch_size', 1000) is None
  with pytest.raises(Error, match='over the global batch'):
    memory.largest(config, source, mesh, 'microbatch', limit)
  config.encoder.norm = 'ghost:4'
  found = memory.largest(config, source, mesh, 'microbatch', 10 * limit)
  assert found is not None and found[0] == 32  # all of a device


def test_shapes_stand_in_for_data_that_is_not_here(mesh):
  config = tiny.config_of('supervised_small')
  config.data.source = 'folder:/there/is/no/such/folder'
  config.data.image_size = 12
  source = memory.stand_in(config, images=10**6, classes=7, channels=3)
  assert (source.train.size, source.train.num_classes) == (10**6, 7)
  needs = memory.needs(config, source, mesh)
  assert needs.input >= 64 // 2 * 12 * 12 * 3
  assert needs.total > 0


def test_the_command(capsys, monkeypatch):
  monkeypatch.setattr(plan.command_line, 'set_up_cpu', lambda devices: None)
  monkeypatch.setattr(plan.compiled, 'keep', lambda: None)
  argv = ['plan', '--config=tests/tiny.py', '--config.batch_size=32']
  plan.main(argv)
  said = capsys.readouterr().out
  assert 'of each of 1 devices (cpu), batch_size 32' in said
  assert 'floating-point operations a step' in said
  for wrong, sentence in (
    ('--memory=16', "--memory is '16': write 16GiB or 800MiB"),
    ('--devices=0', '--devices is 0: it must be at least 1'),
    ('--devices=99', 'there are 8 devices here'),
  ):
    with pytest.raises(SystemExit, match=sentence):
      plan.main([*argv, wrong])
