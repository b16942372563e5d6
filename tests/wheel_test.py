"""The wheel holds all that a run outside of the checkout needs."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from tests import train_test

ROOT = pathlib.Path(__file__).parents[1]
PIP = [sys.executable, '-m', 'pip']


@pytest.fixture(scope='module')
def installed(tmp_path_factory) -> pathlib.Path:
  """A folder into which the wheel was unpacked, without its dependencies."""
  folder = tmp_path_factory.mktemp('wheel')
  source = folder / 'source'
  # A copy: setuptools leaves a build folder behind.
  subprocess.run(['git', 'init', '-q', source], check=True)
  for name in ('pyproject.toml', 'README.md', 'LICENSE'):
    (source / name).write_bytes((ROOT / name).read_bytes())
  for name in ('contrastive_jax', 'configs'):
    for path in (ROOT / name).rglob('*.py'):
      copy = source / path.relative_to(ROOT)
      copy.parent.mkdir(parents=True, exist_ok=True)
      copy.write_bytes(path.read_bytes())
  subprocess.run(
    [
      sys.executable,
      '-m',
      'pip',
      'wheel',
      '-q',
      '--no-deps',
      '-w',
      folder,
      '.',
    ],
    cwd=source,
    check=True,
  )
  (wheel,) = folder.glob('*.whl')
  site = folder / 'site'
  subprocess.run(
    [
      sys.executable,
      '-m',
      'pip',
      'install',
      '-q',
      '--no-deps',
      '--target',
      site,
    ]
    + [wheel],
    check=True,
  )
  names = zipfile.ZipFile(wheel).namelist()
  ours = {
    p.relative_to(ROOT).as_posix() for p in ROOT.glob('contrastive_jax/**/*.py')
  }
  assert ours <= set(names)
  assert 'contrastive_jax/configs/simclr_r50.py' in names
  assert not any(name.startswith(('tests', 'experiments')) for name in names)
  return site


@pytest.mark.parametrize('config', [[], ['--config=simclr_small:digits']])
def test_starts_from_another_folder(config, installed, tmp_path):
  output = subprocess.run(
    [
      *train_test.COMMAND,
      *config,
      '--workdir=w',
      '--cpu_devices=2',
      '--config.encoder.name=_tiny',
      '--config.encoder.width=8',
      '--config.steps=2',
    ],
    cwd=tmp_path,
    env=dict(train_test.ENVIRONMENT, PYTHONPATH=os.fspath(installed)),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert output.returncode == 0, output.stdout
  assert (tmp_path / 'w' / 'summary.json').exists()
