"""Wrong inputs to every command: does each end in one sentence?

  python -m experiments.torture.wrong_inputs [--seed=0] [--count=300]

Each is a process of its own, two at a time (some ten minutes). Of every field
of a config with a range values outside of it are generated, of all the
objectives too; of these `count` are drawn, and those written by hand come on
top. Prints how many were tried, and how many ended in a sentence, a traceback,
not at all (a minute) or, silently wrong, as if nothing were. Fails if any of
the last three is not 0.
"""

import collections
import concurrent.futures
import dataclasses
import importlib
import pathlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from absl import app, flags

from contrastive_jax import objectives
from contrastive_jax.config import base, flat
from contrastive_jax.training import ranges
from experiments import small_configs

_COUNT = flags.DEFINE_integer('count', 300, 'Drawn of the generated ones.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the draw.')
_SECONDS = 60
_TINY = '--config=tests/tiny.py'


def outside(ends: Mapping[str, Any], kind: type) -> Iterator[str]:
  """Yields values that a field of this range must not have, as flags have them.

  Args:
    ends: as the arguments of `objectives.field`.
    kind: int, float, bool or str.
  """
  if ends.get('among'):
    yield 'nonsense'
    return
  if kind is float:
    yield from ('nan', 'inf', '-inf')
  if kind in (int, float):
    yield from ('nonsense', '1e400' if kind is int else '')
    for end, step in (('least', -1), ('most', 1), ('above', 0), ('below', 0)):
      if ends.get(end) is not None:
        yield str(kind(ends[end] + step))


def of_fields() -> Iterator[list[str]]:
  """Yields arguments of main, a wrong field each."""
  defaults = flat(base().to_dict())
  for name, known in ranges.RANGES.items():
    default = defaults[name]
    if isinstance(default, tuple):
      if known.entries is float:
        entries = list(outside(known.ends, float))
        values = [f'({e}, {e})' for e in entries if e not in ('', 'nonsense')]
        values += ['()', '(1, 2, 3, 4, 5)'] if known.lengths else []
        # One that the range allows is no wrong one.
        lengths = known.lengths
        values = [v for v in values if v != '()' or 0 not in lengths]
        for value in values:
          yield [_TINY, f'--config.{name}={value}']
      continue
    if default is None or known.ends == {} and not isinstance(default, float):
      continue
    for value in outside(known.ends, type(default)):
      yield [_TINY, f'--config.{name}={value}']
  for objective in small_configs.NAMES:
    config = small_configs.load(objective)
    module = importlib.import_module(
      f'{objectives.__name__}.{config.objective.name}'
    )
    for field in dataclasses.fields(module.Fields):
      for value in outside(field.metadata, type(field.default)):
        yield [
          f'--config={objective}_small',
          f'--config.objective.{field.name}={value}',
        ]


def by_hand(folder: pathlib.Path) -> Iterator[tuple[str, list[str]]]:
  """Yields (command, arguments), the wrong ones that no field explains."""
  (folder / 'empty').mkdir()
  (folder / 'file').write_text('no folder')
  (folder / 'none.py').write_text('def get_config():\n  return None\n')
  (folder / 'dict.py').write_text('def get_config():\n  return {"seed": 1}\n')
  (folder / 'part.py').write_text(
    'from contrastive_jax.config import base\n'
    'def get_config():\n  return base().data\n'
  )
  (folder / 'sweep.py').write_text('SETTINGS = []\n')
  run = folder / 'run'
  run.mkdir()
  (run / 'config.json').write_text('{')
  for argument in (
    '--config=nowhere.py',
    '--config=nowhere',
    f'--config={folder}/none.py',
    f'--config={folder}/dict.py',
    f'--config={folder}/part.py',
    '--config=simclr_small:cifar',
    '--config=simclr_small:folder:nowhere',
    f'--config=simclr_small:folder:{folder}/empty',
    f'--config=simclr_small:folder:{folder}/file',
    '--config=simclr_small:idx:nowhere',
    '--config=simclr_small:tfds:nowhere',
    '--config=simclr_small:tfds:',
    '--config.sead=1',
    '--config.x=1',
    '--config.objective.temprature=1',
    '--config.encoder.name=vgg',
    '--config.encoder.name=no.module:function',
    '--config.objective.name=json:nothing',
    '--cpu_devices=0',
    '--cpu_devices=7',
    '--workdir=',
    f'--workdir={folder}/file',
    '--workdir=gs://bucket/run',
    'positional',
    '--procesess=2',
    '--processes=2',
    '--coordinator=localhost',
    '--coordinator=localhost:port --processes=2 --process=0',
    '--config.batch_size=100000',
    '--config.data.held_out=0.999999',
  ):
    yield 'main', [*argument.split(' ')]
  for command in ('evaluate', 'report'):
    for workdir in ('nowhere', folder / 'file', folder / 'empty'):
      yield command, [f'--workdir={workdir}']
    yield command, []
  # A report shows of a damaged run what there is, and what is missing.
  yield 'evaluate', [f'--workdir={run}']
  yield 'evaluate', [f'--workdir={run}', '--protocol=guess']
  yield 'evaluate', [f'--workdir={run}', '--step=-1']
  yield 'evaluate', [f'--workdir={run}', '--step=many']
  for argument in (
    '--config=nowhere',
    '--config=simclr_small:folder:nowhere',
    '--config.augment.blur=()',
  ):
    yield 'preview', [argument]
  for argument in ('--sweep=nowhere.py', f'--sweep={folder}/sweep.py'):
    yield 'sweep', [f'--workdir={folder}/sweep', argument]
  yield 'sweep', [f'--workdir={folder}/sweep']


def outcome(command: str, arguments: list[str], folder: pathlib.Path) -> str:
  """Runs one; returns 'sentence', 'traceback', 'silently wrong' or 'hang'."""
  with tempfile.TemporaryDirectory(dir=folder) as work:
    call = [sys.executable, '-m', f'contrastive_jax.{command}', *arguments]
    if command in ('main', 'preview') and not any(
      a.startswith('--workdir') for a in arguments
    ):
      call += [f'--workdir={work}/run'] if command == 'main' else []
      call += [f'--output={work}/sheet.png'] if command == 'preview' else []
    try:
      done = subprocess.run(
        call, capture_output=True, text=True, timeout=_SECONDS
      )
    except subprocess.TimeoutExpired:
      return 'hang'
  if done.returncode == 0:
    return 'silently wrong'
  if 'Traceback' in done.stderr:
    return 'traceback'
  return 'sentence'


def main(argv: list[str]) -> None:
  """Prints the counts, and each that did not end in a sentence."""
  del argv
  generated = [('main', arguments) for arguments in of_fields()]
  drawn = random.Random(_SEED.value).sample(
    generated, min(_COUNT.value, len(generated))
  )
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    cases = [*drawn, *by_hand(folder)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      ends = pool.map(lambda c: outcome(c[0], c[1], folder), cases)
      counts = collections.Counter()
      for (command, arguments), end in zip(cases, ends, strict=True):
        counts[end] += 1
        if end != 'sentence':
          print(f'{end}: {command} {" ".join(arguments)}', flush=True)
  kinds = ('sentence', 'traceback', 'silently wrong', 'hang')
  print(
    f'{len(generated)} generated; tried {len(cases)}: '
    + ', '.join(f'{counts[kind]} {kind}' for kind in kinds)
  )
  sys.exit(int(counts['sentence'] < len(cases)))


if __name__ == '__main__':
  app.run(main)
