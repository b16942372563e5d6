"""What the commands share: reading `--config`, and devices of a CPU."""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax
from absl import flags


def set_up_cpu(devices: int) -> None:
  """Divides a CPU into XLA devices; to be called before the first is used.

  Args:
    devices: how many.
  """
  jax.config.update('jax_num_cpu_devices', devices)
  # On a busy machine, or one that slept, a device may be late for a reduction:
  # XLA ends the process after 40 seconds unless told otherwise.
  patience = '--xla_cpu_collective_call_terminate_timeout_seconds'
  if patience not in (xla_flags := os.environ.get('XLA_FLAGS', '')):
    os.environ['XLA_FLAGS'] = f'{xla_flags} {patience}=600'


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
    # ml_collections knows the nearest key; it quotes itself twice.
    if 'Did you mean' not in str(error):
      raise
    sentence = str(error).replace('\\n', ' ').replace('\\', '').replace("'", '')
    sys.exit(f'error: unknown config key: {sentence.strip(chr(34))}')
  except OSError as error:
    path = str(error).partition('directory: ')[2].replace("'", '')
    sys.exit(f'error: there is no config file {path}' if path else f'{error}')
  except (flags.Error, TypeError) as error:
    sys.exit(f'error: {error}')
