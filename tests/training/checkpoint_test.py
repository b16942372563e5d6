import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.sidefiles import atomic_write

# A failed read leaves Orbax's other reads behind, which then complain on
# stderr that their event loop is closed.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)

REPOSITORY = pathlib.Path(__file__).parents[1]


@flax.struct.dataclass
class State:
  params: Any
  model_state: Any
  opt_state: Any
  step: Any
  rng: Any


OPTIMIZERS = {
  'adam': optax.chain(optax.clip(1.0), optax.adam(1e-3)),
  'sgd': optax.sgd(optax.cosine_decay_schedule(0.1, 10), momentum=0.9),
}


def replicated(devices):
  return NamedSharding(Mesh(jax.devices()[:devices], 'd'), PartitionSpec())


def make_state(step=0, devices=8, optimizer='adam', features=256):
  random = np.random.default_rng(step)

  def normal(*shape):
    return random.normal(size=shape).astype(np.float32)

  params = {'encoder': {'kernel': normal(128, features), 'bias': normal(3)}}
  momenta = jax.tree.map(
    lambda leaf: normal(*leaf.shape).astype(leaf.dtype),
    OPTIMIZERS[optimizer].init(params),
  )
  state = State(
    params=params,
    model_state={'empty': {}, 'half': jnp.ones(2, jnp.bfloat16), 'n': 7},
    opt_state=momenta,
    step=np.int32(step),
    rng=jax.random.fold_in(jax.random.key(1), step),
  )
  return jax.device_put(state, replicated(devices))


def abstract(state, devices=8):
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=replicated(devices)
    ),
    state,
  )


def assert_same(state, expected):
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  for leaf, other in zip(
    jax.tree.leaves(state), jax.tree.leaves(expected), strict=True
  ):
    assert leaf.dtype == other.dtype
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf, other = map(jax.random.key_data, (leaf, other))
    for shard in leaf.addressable_shards:
      assert np.asarray(shard.data).tobytes() == np.asarray(other).tobytes()


def write(directory, *steps, keep=3):
  with Checkpoints(directory, every_steps=1, keep=keep) as checkpoints:
    for step in steps:
      assert checkpoints.save(step, make_state(step))


def read(directory, state=None):
  """Returns what restore() returns, and the sentences it logged."""
  sentences = []
  state = make_state() if state is None else state
  with Checkpoints(
    directory, every_steps=1, keep=3, log=sentences.append
  ) as checkpoints:
    return checkpoints.restore(state), sentences


def biggest_file(folder):
  files = [path for path in folder.rglob('*') if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


@pytest.fixture(scope='module')
def intact(tmp_path_factory):
  directory = tmp_path_factory.mktemp('intact')
  write(directory, 10, 20)
  return directory


@pytest.fixture
def two_steps(intact, tmp_path):
  """A folder of its own with the intact steps 10 and 20."""
  return shutil.copytree(intact, tmp_path / 'checkpoints')


def truncate(step):
  path = biggest_file(step)
  os.truncate(path, path.stat().st_size // 2)


def flip(step):
  path = biggest_file(step)
  content = bytearray(path.read_bytes())
  middle = len(content) // 2
  content[middle : middle + 16] = bytes(
    byte ^ 0xFF for byte in content[middle : middle + 16]
  )
  path.write_bytes(content)


def delete_data(step):
  biggest_file(step).unlink()


def delete_manifest(step):
  (step / 'state' / 'manifest.ocdbt').unlink()


def delete_state(step):
  shutil.rmtree(step / 'state')


def delete_hashes(step):
  shutil.rmtree(step / 'hashes')


def delete_everything(step):
  shutil.rmtree(step)
  step.mkdir()


def exchange_hashes(step):
  shutil.rmtree(step / 'hashes')
  shutil.copytree(step.parent / '10' / 'hashes', step / 'hashes')


@pytest.mark.parametrize(
  ('damage', 'reason'),
  [
    (truncate, 'cannot be read'),
    (flip, 'content hash of '),
    (delete_data, 'cannot be read'),
    (delete_manifest, 'cannot be read'),
    (delete_state, 'cannot be read'),
    (delete_hashes, 'cannot be read'),
    (delete_everything, 'cannot be read'),
    (exchange_hashes, 'it is of another step'),
  ],
  ids=lambda value: getattr(value, '__name__', ''),
)
def test_damage_leads_to_the_step_before(two_steps, damage, reason):
  damage(two_steps / '20')
  (state, step), sentences = read(two_steps)
  assert step == 10
  assert_same(state, make_state(10))
  (sentence,) = sentences
  assert f'checkpoint {two_steps / "20"} is damaged ({reason}' in sentence
  assert sentence.endswith('; using step 10')
  assert '\n' not in sentence


def test_damaged_step_is_kept_and_saved_again(two_steps):
  flip(two_steps / '20')
  damaged = biggest_file(two_steps / '20').read_bytes()
  for kept in ('damaged-20', 'damaged-20-2'):
    with Checkpoints(two_steps, every_steps=1, keep=3) as checkpoints:
      assert checkpoints.restore(make_state())[1] == 10
      assert (two_steps / '20').exists()  # reading changes nothing
      assert checkpoints.save(20, make_state(20))
    assert biggest_file(two_steps / kept).read_bytes() == damaged
    (state, step), sentences = read(two_steps)
    assert step == 20 and not sentences
    assert_same(state, make_state(20))
    shutil.rmtree(two_steps / '20')
    shutil.copytree(two_steps / kept, two_steps / '20')


def test_all_damaged_is_an_error(two_steps):
  flip(two_steps / '10')
  truncate(two_steps / '20')
  with pytest.raises(ValueError, match='intact .*step 20: .*step 10: .* away'):
    read(two_steps)


def test_half_written_is_ignored_and_overwritten(two_steps):
  leftover = two_steps / '30.orbax-checkpoint-tmp'
  other = two_steps / '33.orbax-checkpoint-tmp'
  for path in (leftover, other):
    shutil.copytree(two_steps / '20', path)
    truncate(path)
  sentences = []
  with Checkpoints(
    two_steps, every_steps=10, keep=3, log=sentences.append
  ) as checkpoints:
    assert checkpoints.restore(make_state())[1] == 20
    assert checkpoints.save(30, make_state(30))
  for path, sentence in zip((leftover, other), sentences, strict=True):
    assert str(path) in sentence and 'half-written' in sentence
  assert {path.name for path in two_steps.iterdir()} == {'10', '20', '30'}
  (state, step), sentences = read(two_steps)
  assert step == 30 and not sentences
  assert_same(state, make_state(30))


def test_only_half_written_is_no_checkpoint(intact, tmp_path):
  shutil.copytree(intact / '10', tmp_path / '10.orbax-checkpoint-tmp')
  result, (sentence,) = read(tmp_path)
  assert result is None and 'half-written' in sentence


KILLED = """
import sys
import jax, numpy as np
from contrastive_jax.training.checkpoint import Checkpoints
jax.config.update('jax_platforms', 'cpu')
random = np.random.default_rng(0)
state = {'x': jax.numpy.asarray(random.random((25, 1_000_000), np.float32))}
checkpoints = Checkpoints(sys.argv[1], every_steps=10, keep=2)
checkpoints.save(10, {'x': state['x'][0]})
checkpoints.close()
checkpoints = Checkpoints(sys.argv[1], every_steps=10, keep=2)
checkpoints.save(20, state)
print('saving', flush=True)
checkpoints.close()
print('saved', flush=True)
"""


def test_killed_while_saving(tmp_path):
  process = subprocess.Popen(
    [sys.executable, '-c', KILLED, str(tmp_path)],
    stdout=subprocess.PIPE,
    text=True,
    cwd=REPOSITORY,
  )
  leftover = tmp_path / '20.orbax-checkpoint-tmp'
  while not leftover.exists() and process.poll() is None:
    time.sleep(0.001)
  process.send_signal(signal.SIGKILL)
  output, _ = process.communicate()
  assert process.returncode == -signal.SIGKILL and 'saved' not in output
  shape = jax.ShapeDtypeStruct((1_000_000,), jnp.float32)
  (state, step), (sentence,) = read(tmp_path, {'x': shape})
  assert step == 10 and str(leftover) in sentence
  expected = np.random.default_rng(0).random((25, 1_000_000), np.float32)[0]
  np.testing.assert_array_equal(state['x'], expected)
  with Checkpoints(tmp_path, every_steps=10, keep=2) as checkpoints:
    assert checkpoints.save(20, state)
  assert read(tmp_path, state)[0][1] == 20


PROCESS = """
import sys
import jax, numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from contrastive_jax.training import checkpoint
directory, port, index = sys.argv[1:]
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 2)
jax.distributed.initialize(f'localhost:{port}', 2, int(index))
mesh = Mesh(jax.devices(), 'd')
values = np.random.default_rng(0).random((3, 1000), np.float32)

def make(step):
  return jax.make_array_from_callback(
    (1000,), NamedSharding(mesh, PartitionSpec()), values[step].__getitem__
  )

def opened():
  return checkpoint.Checkpoints(directory, every_steps=1, keep=3)

with opened() as checkpoints:
  assert checkpoints.restore(make(0)) is None
  assert all(checkpoints.save(step, make(step)) for step in (1, 2))
if index == '1':  # Only this process finds damage: both must go back.
  checkpoint._hash, intact = lambda value: (
    '' if value[0] == values[2, 0] else intact(value)
  ), checkpoint._hash
with opened() as checkpoints:
  state, step = checkpoints.restore(make(0))
  assert step == 1 and (np.asarray(state) == values[1]).all()
  assert state.sharding == make(0).sharding
  if index == '1':
    checkpoint._hash = intact
  assert checkpoints.save(2, make(2))
with opened() as checkpoints:
  assert checkpoints.restore(make(0))[1] == 2
"""


def test_two_processes(tmp_path):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', PROCESS, str(tmp_path), str(port), str(index)],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      cwd=REPOSITORY,
    )
    for index in range(2)
  ]
  try:
    outputs = [process.communicate(timeout=120)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert [process.returncode for process in processes] == [0, 0], outputs
  assert outputs[0].count('/2 is damaged (another process') == 1
  assert 'damaged' not in outputs[1]
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {'1', '2', 'damaged-2'}


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_round_trip(tmp_path, optimizer):
  state = make_state(5, optimizer=optimizer)
  with Checkpoints(tmp_path, every_steps=5, keep=1) as checkpoints:
    assert checkpoints.restore(state) is None
    assert checkpoints.save(5, state)
    restored, step = checkpoints.restore(state)
  assert step == 5
  assert_same(restored, state)
  assert jax.random.normal(restored.rng) == jax.random.normal(state.rng)


def test_other_device_counts(tmp_path):
  expected = state = make_state(1)
  for step, devices in enumerate((2, 1, 8), start=1):
    with Checkpoints(tmp_path, every_steps=1, keep=1) as checkpoints:
      checkpoints.save(step, state)
    (state, _), _ = read(tmp_path, abstract(state, devices))
    assert_same(state, expected)
    for leaf in jax.tree.leaves(state):
      assert leaf.sharding == replicated(devices) and leaf.committed


def test_donated_right_after_save(tmp_path):
  step_fn = jax.jit(
    lambda state: state.replace(
      params=jax.tree.map(lambda leaf: leaf + 1, state.params)
    ),
    donate_argnums=0,
  )
  with Checkpoints(tmp_path, every_steps=1, keep=2) as checkpoints:
    state = make_state(1, features=8192)
    old = jax.tree.leaves(state.params)
    checkpoints.save(1, state)
    after = step_fn(state)
    after = step_fn(after)
    assert all(leaf.is_deleted() for leaf in old)
    restored, _ = checkpoints.restore(abstract(after))
    assert_same(restored, make_state(1, features=8192))
    # No two devices share the buffer that was read: each adds once.
    assert_same(step_fn(step_fn(restored)), after)


def test_interval_force_and_repetition(tmp_path):
  state = make_state(devices=1)
  with Checkpoints(tmp_path, every_steps=10, keep=2) as checkpoints:
    assert not checkpoints.save(5, state)
    assert checkpoints.save(10, state)
    assert not checkpoints.save(10, state)
    assert not checkpoints.save(10, state, force=True)
    assert checkpoints.save(13, state, force=True)
    assert checkpoints.save(20, state)
  assert {path.name for path in tmp_path.iterdir()} == {'13', '20'}


def test_damaged_steps_do_not_count_as_kept(two_steps):
  flip(two_steps / '20')
  with Checkpoints(two_steps, every_steps=1, keep=2) as checkpoints:
    checkpoints.restore(make_state())
    checkpoints.save(15, make_state(15))
  names = {path.name for path in two_steps.iterdir()}
  assert names == {'10', '15', 'damaged-20'}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda state: make_state(features=64),
      r'20 .*params/encoder/kernel is float32\[128,256\] there and '
      r'float32\[128,64\] here',
    ),
    (
      lambda state: state.replace(step=jnp.float32(0)),
      r'step is int32\[\] there and float32\[\] here',
    ),
    (
      lambda state: state.replace(params={}),
      r'params/encoder/bias is float32\[3\] there and absent here',
    ),
    (
      lambda state: state.replace(model_state={'queue': jnp.ones(2)}),
      r'model_state/queue is absent there and float32\[2\] here',
    ),
  ],
  ids=['shape', 'dtype', 'fewer', 'more'],
)
def test_state_of_another_config(intact, change, message):
  with pytest.raises(ValueError, match=message):
    read(intact, change(make_state()))


def test_impossible_settings(tmp_path):
  with pytest.raises(ValueError, match='at least 1, not 10 and 0'):
    Checkpoints(tmp_path, every_steps=10, keep=0)


def test_atomic_write(tmp_path):
  path = tmp_path / 'summary.json'
  for text in ('{}', '{"step": 1}'):
    atomic_write(path, text)
    assert path.read_text() == text
  assert list(tmp_path.iterdir()) == [path]
