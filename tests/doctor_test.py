"""The doctor calls right what is right, and wrong what is wrong."""

import functools
import types

import jax
import numpy as np
import pytest

from contrastive_jax import doctor, losses
from contrastive_jax.training import build, checks, parity, step
from tests import outside, tiny

# Of ml_collections, as it loads a file.
pytestmark = pytest.mark.filterwarnings(
  'ignore:the load_module:DeprecationWarning'
)

Fields = outside.Fields
right = functools.partial(losses.nt_xent, temperature=0.1)


def local(z_a, z_b, axis_name=None):
  """A loss as many write it: the negatives are those of its own replica."""
  del axis_name
  return right(z_a, z_b)


def alone(c, run, encoder):
  """An objective whose loss is made of each replica's images alone."""
  whole = outside.alignment(c, run, encoder)

  def loss(*args, **kwargs):
    _, (state, metrics, embeddings) = whole.loss(*args, **kwargs)
    return local(*embeddings), (state, metrics, embeddings)

  return whole._replace(loss=loss)


def _main(monkeypatch, *arguments):
  monkeypatch.setattr(doctor.command_line, 'set_up_cpu', lambda devices: None)
  monkeypatch.setattr(doctor.compiled, 'keep', lambda: None)
  monkeypatch.setattr(checks, '_SECONDS', 0.01)
  doctor.main(['doctor', *arguments])


def test_all_is_well(monkeypatch, capsys):
  # An input that has to be waited for is no fault of a machine under load.
  monkeypatch.setattr(checks, 'speeds', lambda job: iter([('ok', 'input 7')]))
  arguments = '--config=tests/tiny.py', '--loss=tests.doctor_test:right'
  _main(monkeypatch, *arguments)
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines] == ['ok'] * len(lines)
  for said in (
    'jax 0.',
    'no accelerator',
    'config and data: 4 steps of 64 images',
    'gradient of simclr, 64 images: on 8 simulated devices that of one, to',
    'gradient of tests.doctor_test:right: on 8 simulated devices that of one',
    'a step repeats itself to the bit',
    'input 7',
  ):
    assert any(said in line for line in lines), said


def test_what_is_wrong_is_said(monkeypatch, capsys):
  config = outside.get_config()
  config.objective.name = 'tests.doctor_test:alone'
  job = build.build(config, step.make_mesh(jax.devices()[:1]))
  devices = jax.devices()
  (line,) = checks.gradients(job, devices[:1], devices[:8])
  assert line[0] == 'wrong' and 'on 8 simulated devices it differs' in line[1]
  (line,) = checks.loss_alone('local', local, devices[:1], devices[:8])
  assert line[0] == 'wrong' and 'is every mean, and every negative' in line[1]
  with pytest.raises(SystemExit, match='1'):
    _main(
      monkeypatch, '--config=tests/tiny.py', '--config.data.source=folder:/none'
    )
  assert 'wrong config and data: folder:/none' in capsys.readouterr().out


def test_a_loss_of_all_replicas_passes():
  mesh = step.make_mesh()
  assert parity.error_of_loss(right, mesh) < 1e-5
  assert parity.error_of_loss(local, mesh) > 0.05
  vicreg = functools.partial(losses.vicreg)
  assert parity.error_of_loss(vicreg, mesh) < 1e-5


def test_versions_that_do_not_fit(monkeypatch):
  needed = ['numpy>=99', 'no-such-package>=1', "absent; extra == 'dev'", 'jax']
  monkeypatch.setattr(
    doctor.importlib.metadata, 'requires', lambda name: needed
  )
  first, second, last = doctor.versions()
  assert first[1] == f'numpy is {np.__version__}, needed is >=99'
  assert second == ('wrong', 'no-such-package is not installed')
  assert last[0] == 'ok' and f'jax {jax.__version__}' in last[1]


def test_a_gpu_that_is_not_used_is_noticed(monkeypatch):
  cpu = types.SimpleNamespace(device_kind='cpu')
  monkeypatch.setattr(
    doctor.glob, 'glob', lambda path: ['0000'] if 'nvidia' in path else []
  )
  (line,) = doctor.accelerators('cpu', [cpu])
  assert line[0] == 'wrong' and "pip install -e '.[cuda]'" in line[1]
  gpu = types.SimpleNamespace(device_kind='NVIDIA H200')
  assert list(doctor.accelerators('gpu', [gpu] * 8)) == [
    ('ok', '8 devices: NVIDIA H200')
  ]


def test_the_slower_of_input_and_step_is_named(monkeypatch):
  job = build.build(tiny.get_config(), step.make_mesh(jax.devices()[:1]))
  for seconds, verdict in (((0.1, 0.2), 'ok'), ((0.2, 0.1), 'wrong')):
    times = iter(seconds)
    monkeypatch.setattr(checks, '_timed', lambda call, t=times: next(t))
    (line,) = checks.speeds(job)
    assert line[0] == verdict, line
  assert 'input 320 images/s, step 640: the devices wait 50%' in line[1]
