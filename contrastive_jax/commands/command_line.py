"""What the commands share: reading `--config`, and devices of a CPU."""

import argparse
import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence

import ml_collections
from absl import flags
from absl import logging as absl_logging
from ml_collections import config_flags

from contrastive_jax.config import (
  Config,
  Error,
  check_keys,
  flat,
  packaged_config,
  unknown_key,
)

# Set to anything, a command shows where an error was raised.
_TRACEBACK = 'CONTRASTIVE_JAX_TRACEBACK'


def set_up_cpu(devices: int) -> None:
  """Divides a CPU into XLA devices; to be called before the first is used.

  Args:
    devices: how many.
  """
  import jax  # takes a second, which --help is not to wait for

  jax.config.update('jax_num_cpu_devices', devices)
  # On a busy machine, or one that slept, a device may be late for a reduction:
  # XLA ends the process after 40 seconds unless told otherwise.
  patience = '--xla_cpu_collective_call_terminate_timeout_seconds'
  if patience not in (xla_flags := os.environ.get('XLA_FLAGS', '')):
    os.environ['XLA_FLAGS'] = f'{xla_flags} {patience}=600'


def devices_of_cpu(rows: int) -> int:
  """Returns how many XLA devices the cores of this process become.

  Args:
    rows: of this process's batch, which they have to divide; 0: not known yet.
  """
  cores = len(os.sched_getaffinity(0))
  return max(n for n in range(1, cores + 1) if rows % n == 0)


def shorten_tracebacks() -> None:
  """Leaves out the tracebacks that Orbax and clu log; they raise them, too."""

  def wanted(record: logging.LogRecord) -> bool:
    theirs = re.search(r'[/\\](orbax|clu)[/\\]', record.pathname)
    return not (record.exc_info and theirs) or bool(os.environ.get(_TRACEBACK))

  absl_logging.get_absl_logger().addFilter(wanted)


@contextlib.contextmanager
def said_in_a_sentence() -> Iterator[None]:
  """Ends the process with one sentence if a config or a flag is wrong.

  Raises:
    SystemExit: with the sentence; what the config file itself raises passes
      through, as its author needs the trace.
  """
  try:
    yield
  except (AttributeError, KeyError) as error:
    if "no attribute 'get_config'" in str(error):
      sys.exit('error: the config file has no function get_config(source)')
    # ml_collections knows the nearest key; it quotes itself twice.
    if 'Did you mean' not in str(error):
      raise
    sentence = str(error).replace('\\n', ' ').replace('\\', '').replace("'", '')
    sys.exit(f'error: unknown config key: {sentence.strip(chr(34))}')
  except OSError as error:
    path = str(error).partition('directory: ')[2].replace("'", '')
    sentence = (
      f'there is no config file {path}' if path else f'--config: {error}'
    )
    sys.exit(f'error: {sentence}')
  except (flags.Error, TypeError) as error:
    if 'positional argument' in str(error):
      sys.exit(
        'error: get_config of the config file does not take the source that '
        "follows the colon: write get_config(source='digits')"
      )
    sys.exit(f'error: {str(error).strip().splitlines()[0]}')


@contextlib.contextmanager
def errors_in_a_sentence() -> Iterator[None]:
  """Ends the process with one sentence if a user's input is wrong.

  Any other error, a mistake in our code or in the user's own, keeps its
  traceback.

  Raises:
    SystemExit: with the sentence.
  """
  try:
    yield
  except (Error, OSError) as error:
    if os.environ.get(_TRACEBACK):
      raise
    sys.exit(f'error: {error} (traceback: {_TRACEBACK}=1)')
  except Exception as error:
    if os.environ.get(_TRACEBACK) or not _a_peer_is_gone(error):
      raise
    print(
      'error: another process of the job has ended or does not answer: see '
      'what it prints; the same command on all of them continues the run '
      f'(traceback: {_TRACEBACK}=1)',
      file=sys.stderr,
      flush=True,
    )
    # At its end JAX would wait for that process, for minutes.
    os._exit(1)


@contextlib.contextmanager
def errors_into(sentences: list[str]) -> Iterator[None]:
  """Keeps what is wrong with a user's input, where others are still to come.

  Args:
    sentences: gets one more if the input is wrong.
  """
  try:
    yield
  except (Error, OSError) as error:
    absl_logging.debug('raised here', exc_info=True)
    sentences.append(str(error))


def _a_peer_is_gone(error: Exception) -> bool:
  """Whether JAX failed as it does where it talks to another process."""
  import jax

  talks = ('Gloo', 'NCCL', 'coordination', 'Coordination', 'peer')
  of_jax = isinstance(error, jax.errors.JaxRuntimeError | ValueError)
  return (
    of_jax
    and jax.process_count() > 1
    and any(word in str(error) for word in talks)
  )


def with_config_paths(argv: Sequence[str]) -> list[str]:
  """Returns the arguments with the path of a config that is named without one.

  Args:
    argv: `--config=simclr_small:digits` names a config that comes with the
      package; whatever is a file, or looks like one, stays.

  Raises:
    SystemExit: there are several.
  """
  one_config(argv)
  found = []
  for argument in _joined(argv):
    flag, equals, value = argument.partition('=')
    name, colon, source = value.partition(':')
    if flag.lstrip('-') == 'config' and re.fullmatch(r'\w+', name):
      if path := packaged_config(name):
        argument = f'{flag}{equals}{path}{colon}{source}'
    found.append(argument)
  return found


def _joined(argv: Sequence[str]) -> list[str]:
  """Returns the arguments with `--config NAME` as `--config=NAME`."""
  found: list[str] = []
  for argument in argv:
    if found and found[-1] in ('-config', '--config') and argument[:1] != '-':
      found[-1] += f'={argument}'
    else:
      found.append(argument)
  return found


def check_config(arguments: Sequence[str]) -> None:
  """Ends the process with one sentence if --config or an override is wrong.

  ml_collections would try the overrides on whatever the file returns.

  Args:
    arguments: of the command line, after `with_config_paths`.

  Raises:
    SystemExit: the file returns no whole config, or an override names no field.
  """
  path, overrides = '', []
  for argument in arguments:
    if match := re.match(r'--?(?:no)?config\.([\w.]*)(.?)', argument):
      overrides.append(match[1])
    elif match := re.match(r'--?config=(.*)', argument):
      path = match[1]
  if not path:
    return
  values, alone = flags.FlagValues(), ['', f'--config={path}']
  config_flags.DEFINE_config_file(
    'config', None, flag_values=values, sys_argv=alone
  )
  try:
    with said_in_a_sentence():
      values(alone)
      config = values.config
      if config is not None:
        getattr(config, 'get', lambda _: None)('seed')  # if it was not loaded
      if not isinstance(config, ml_collections.ConfigDict):
        raise Error(
          f'get_config returns {type(config).__name__}, no config: it starts '
          'from contrastive_jax.config.base() and returns it whole'
        )
      check_keys(config)
      known = flat(config.to_dict())
      for key in overrides:
        if any(name.startswith(f'{key}.') for name in known):
          raise Error(f'config.{key} is a part of the config: set its fields')
        if key not in known:
          raise Error(unknown_key(key, set(known)))
  except Error as error:
    sys.exit(f'error: {error} (--config={path})')


def one_config(arguments: Sequence[str]) -> None:
  """Ends the process with one sentence if a command line has two configs.

  Args:
    arguments: of the command line.

  Raises:
    SystemExit: it has; the last one would be taken.
  """
  given = [a for a in _joined(arguments) if re.match(r'--?config=', a)]
  if len(given) > 1:
    sys.exit(
      f'error: there are {len(given)} configs, {given[0]} to {given[-1]}: give '
      'one; a shell makes several of {000..127}, unless it stands in quotes'
    )


def config_parser(command: str, description: str) -> argparse.ArgumentParser:
  """Returns the parser of a command that takes a config and trains nothing.

  Args:
    command: its name, as in `python -m contrastive_jax.NAME`.
    description: for --help.
  """
  parser = argparse.ArgumentParser(
    prog=f'python -m contrastive_jax.{command}',
    description=description,
    allow_abbrev=False,
  )
  parser.add_argument(
    '--config',
    required=True,
    help='FILE or FILE:SOURCE, such as configs/simclr_small.py:folder:PATH; '
    'any field can be overridden, as in --config.batch_size=1024',
  )
  return parser


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, Config]:
  """Returns the options of a command line, and the config that they name.

  Args:
    parser: of `config_parser`.
    argv: with the program's name.
  """
  one_config(argv)
  options, overrides = parser.parse_known_args(argv[1:])
  return options, read_config(
    [argv[0], f'--config={options.config}', *overrides]
  )


def read_config(arguments: list[str]) -> Config:
  """Reads --config and its overrides; what is wrong is said in a sentence."""
  arguments = with_config_paths(arguments)
  check_config(arguments)
  # Flags of our own: the process may have others of that name.
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    'config', None, flag_values=values, sys_argv=arguments, lock_config=True
  )
  with said_in_a_sentence():
    rest = values(arguments)[1:]
    # A file that could not be loaded fails at its first use, not before.
    values.config.get('seed')
  if rest:
    sys.exit(f'error: unexpected argument {rest[0]!r}')
  return values.config
