"""What main, sweep and preview share of reading `--config` and overrides."""

import contextlib
import sys
from collections.abc import Iterator

from absl import flags


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
