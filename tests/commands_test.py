"""The command line's --config: whatever is wrong with it is a sentence."""

import pytest

from contrastive_jax import objectives
from contrastive_jax.commands import command_line
from contrastive_jax.config import Error

# Of ml_collections, as it loads a file.
pytestmark = pytest.mark.filterwarnings(
  'ignore:the load_module:DeprecationWarning'
)

START = 'from contrastive_jax.config import base\n'


def exit_of(arguments) -> str:
  with pytest.raises(SystemExit) as ended:
    command_line.read_config(['program', *arguments])
  sentence = str(ended.value)
  assert sentence.startswith('error: ') and '\n' not in sentence
  return sentence


@pytest.mark.parametrize('more', [[], ['--config.steps=3'], [':digits']])
@pytest.mark.parametrize(
  ('body', 'said'),
  [
    ('pass', 'get_config returns NoneType, no config'),
    ("return {'seed': 3}", 'get_config returns dict, no config'),
    ('return 3', 'get_config returns int, no config'),
    ('return base().optimizer', "did you mean 'optimizer.adam_b2'"),
    ('c = base(); del c.optimizer; return c', 'has no optimizer.adam_b2'),
    ('c = base(); c.zzz = 3; return c', "unknown config key 'zzz'; there are"),
    (
      'c = base(); c.encoder.zzz = 3; return c',
      "unknown config key 'encoder.zzz'; those of encoder are encoder.causal",
    ),
  ],
)
def test_what_a_file_returns(tmp_path, body, said, more):
  path = tmp_path / 'a.py'
  path.write_text(f"{START}def get_config(source='digits'):\n  {body}\n")
  first, rest = f'--config={path}', list(more)
  if rest == [':digits']:
    first, rest = first + rest[0], []
  assert said in exit_of([first, *rest])


def test_a_file_that_takes_no_source(tmp_path):
  path = tmp_path / 'a.py'
  path.write_text(f'{START}def get_config():\n  return base()\n')
  assert 'does not take the source' in exit_of([f'--config={path}:digits'])


def test_a_bug_in_a_file_keeps_its_traceback(tmp_path):
  path = tmp_path / 'a.py'
  path.write_text('def get_config(source=None):\n  return {}[3]\n')
  with pytest.raises(KeyError):
    command_line.read_config(['program', f'--config={path}'])


@pytest.mark.parametrize(
  ('argument', 'said'),
  [
    ('--config.zzzqqq=1', "unknown config key 'zzzqqq'; there are "),
    ('--config.batchsize=1', "did you mean 'batch_size'?"),
    ('--config.optimizer.qqq=1', 'those of optimizer are optimizer.adam'),
    ('--config.objective.qqq=1', 'those of objective are objective.'),
    ('--config.nesterov=1', "did you mean 'optimizer.nesterov'?"),
    ('--config.optimizer=3', 'config.optimizer is a part of the config'),
    ('--config.seed.x=3', 'unknown config key'),
    ('--config.=3', "unknown config key ''; there are"),
    ('--config.steps=x', 'invalid literal'),
    ('--config.seed', 'Missing value'),
    ('--noconfig.optimizer.nesterovv', 'optimizer.nesterov'),
    ('--zzz=3', 'Unknown command line flag'),
    ('zzz', 'unexpected argument'),
  ],
)
def test_overrides(argument, said):
  assert said in exit_of(['--config=tests/tiny.py', argument])


def test_a_space_is_as_good_as_an_equals_sign():
  read = command_line.read_config
  config = read(['program', '--config', 'simclr_small:digits'])
  assert config.data.source == 'digits'
  assert 'Missing value' in exit_of(['--config'])


def test_a_second_config_is_refused():
  # What a shell makes of simclr_small:tar:{0..1}.tar.
  arguments = ['--config=simclr_small:tar:0.tar', '--config', 'simclr_small:x']
  said = 'there are 2 configs, --config=simclr_small:tar:0.tar to --config=simc'
  assert said in exit_of(arguments)
  parser = command_line.config_parser('plan', '')
  with pytest.raises(SystemExit, match=said):
    command_line.parse(parser, ['plan', *arguments])


def test_another_objective_is_another_config():
  with pytest.raises(Error, match='those of simclr: an objective is'):
    config = command_line.read_config(
      ['program', '--config=tests/tiny.py', '--config.objective.name=byol']
    )
    objectives.complete(config)


@pytest.mark.parametrize('path', ['', ':digits', 'tests', 'nosuch', '/no.py:x'])
def test_files_that_are_not_there(path):
  exit_of([f'--config={path}'])
