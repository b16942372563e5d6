"""What was compiled once is kept: the next start does not compile it again."""

import contextlib
import hashlib
import os
import pathlib
import platform
import time

_DAYS = 60  # for which a program is kept that nobody uses


def keep() -> None:
  """Makes JAX keep what it compiles in the user's cache, for later starts.

  Does nothing where JAX was told another place (JAX_COMPILATION_CACHE_DIR) or
  not to (JAX_ENABLE_COMPILATION_CACHE=0), and where there is no place to write.
  To be called before anything is compiled.
  """
  import jax  # takes a second, which --help is not to wait for

  if jax.config.jax_compilation_cache_dir:
    return
  if not jax.config.jax_enable_compilation_cache:
    return
  folder = _folder()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if not os.access(folder, os.W_OK):
    return
  _forget_old(folder)
  jax.config.update('jax_compilation_cache_dir', str(folder))
  # Many small programs take seconds together.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def _folder() -> pathlib.Path:
  """Returns the folder: of this kind of processor, as homes may be shared.

  A program for a CPU has instructions that another one may not know.
  """
  cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  kind = platform.machine()
  with contextlib.suppress(OSError):
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    kind += next((x for x in lines if x.startswith(('flags', 'Features'))), '')
  name = hashlib.sha256(kind.encode()).hexdigest()[:12]
  folder = pathlib.Path(cache).expanduser() / 'contrastive_jax'
  return folder / f'compiled_{name}'


def _forget_old(folder: pathlib.Path) -> None:
  """Removes what was not read for a long time."""
  for path in folder.iterdir():
    with contextlib.suppress(OSError):  # another process is at it as well
      status = path.stat()
      used = max(status.st_atime, status.st_mtime)
      if time.time() - used > 24 * 3600 * _DAYS:
        path.unlink()
