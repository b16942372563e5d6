"""The data source tar:PATTERN: WebDataset shards, as train-{000..127}.tar.

Members of one key, the name up to the first dot of its last part, are a
sample: an image, and perhaps `.cls`, a number, or `.json` with a `label`, and
`.txt`, its caption. The headers of all shards are read once; from then on an
image is read where it lies, so that the order is that of any files, and a
process reads no other's images.

Source: webdataset/webdataset, src/webdataset/tariterators.py (base_plus_ext,
group_by_keys).
"""

import collections
import dataclasses
import functools
import glob
import json
import math
import os
import pathlib
import re
import tarfile
import urllib.parse
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data.sources import _files, _scan, _table
from contrastive_jax.data.split import Source, Split
from contrastive_jax.data.tensorflow_host import tf

SPEC = 'tar:PATTERN'

_RANGE = re.compile(r'\{(\d+)\.\.(\d+)\}')
_LONGEST_LABEL = 1 << 16  # bytes of a .cls or .json


class _Sample(NamedTuple):
  shard: int
  key: str
  offset: int  # of the image in the shard, bytes
  size: int
  label: str | None
  caption: str = ''


def load(where: str, *, channels: int | None = None) -> Source:
  """Opens shards.

  Ids count the samples in the order of the shards and in each. All of them are
  trained on; `tar:PATTERN?test=PATTERN` names the shards to be tested on.

  Args:
    where: a path with {000..127} for numbers or with *, for the shards.
    channels: as of `sources.load`.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what is wrong.
  """
  pattern, _, query = where.partition('?')
  options = urllib.parse.parse_qs(query, keep_blank_values=True)
  if query and set(options) != {'test'}:
    raise Error(f'tar:{where}: after ? may come test=PATTERN alone')
  spec = f'tar:{pattern}'
  trained, notes = _samples(spec, pattern)
  names = tuple(
    sorted({s.label for _, s in trained if s.label}, key=_table.by_number)
  )
  tested = None
  if query:
    tested, more = _samples(f'tar:{options["test"][0]}', options['test'][0])
    notes += more

  short = _short_names([shard for shard, _ in (*trained, *(tested or ()))])

  def split(name: str, some: list[tuple[str, _Sample]]) -> Split:
    return _split(f'{spec} {name}', some, names or None, channels or 3, short)

  if count := sum(bool(s.caption) for _, s in trained):
    notes.append(f'{count:,} have a caption')
  if names:
    labels = [s.label for _, s in trained if s.label]
    notes.append(f'{len(labels):,} have labels: {_files.counts(labels)}')
  return Source(
    spec,
    split('train', trained),
    split('test', tested) if tested is not None else None,
    notes=tuple(map(_scan.shown, notes)),
  )


def _short_names(shards: list[str]) -> dict[str, str]:
  """Returns what each shard is called: no more than tells them apart.

  Data that has moved is the same: where all of it lies is no part of a name.
  """
  every = sorted(set(shards))
  names = {shard: os.path.basename(shard) for shard in every}
  if len(set(names.values())) < len(every):
    root = os.path.commonpath(
      [os.path.dirname(os.path.abspath(shard)) for shard in every]
    )
    names = {shard: os.path.relpath(shard, root) for shard in every}
  return names


def shards_of(pattern: str) -> list[str]:
  """Returns the paths that a pattern stands for.

  Args:
    pattern: with {000..127}, of which every number is a shard, or what a shell
      takes: *, ?, [a-z].
  """
  if match := _RANGE.search(pattern):
    first, last = match[1], match[2]
    if int(last) < int(first):
      raise Error(f'tar:{pattern}: {match[0]} counts down')
    width = len(first) if first[0] == '0' else 0
    return [
      path
      for number in range(int(first), int(last) + 1)
      for path in shards_of(
        f'{pattern[: match.start()]}{number:0{width}}{pattern[match.end() :]}'
      )
    ]
  pattern = os.path.expanduser(pattern)
  # A path of its own may hold what a shell would take for a pattern.
  return [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))


def _samples(
  spec: str, pattern: str
) -> tuple[list[tuple[str, _Sample]], list[str]]:
  """Returns (shard, sample) of all shards, and notes."""
  shards = shards_of(pattern)
  if not shards:
    raise MissingError(f'{spec}: there is no such shard')
  ranges = [int(m[2]) - int(m[1]) + 1 for m in _RANGE.finditer(pattern)]
  missing = math.prod(ranges) - len(shards) if ranges else 0
  found, passed = [], collections.Counter()
  for number, shard in enumerate(shards):
    for sample in _scanned(spec, number, shard, passed):
      found.append((shard, sample))
  if len(found) < 2:
    raise Error(
      f'{spec}: {len(found)} images in {len(shards):,} shards, at least 2 are '
      'needed'
    )
  notes = [f'{spec}: {len(found):,} images in {len(shards):,} shards']
  if missing > 0:
    notes.append(f'warning: {missing:,} shards of the pattern are not there')
  if passed:
    notes.append(
      'passed over: ' + ', '.join(f'{n:,} {what}' for what, n in passed.items())
    )
  return found, notes


def _scanned(
  spec: str, number: int, shard: str, passed: collections.Counter
) -> list[_Sample]:
  """The samples of a shard, in its order."""
  images: dict[str, tuple[int, int]] = {}
  labels: dict[str, str] = {}
  captions: dict[str, str] = {}
  try:
    # Not compressed: an image is read where it lies.
    with tarfile.open(shard, 'r:') as archive:
      for member in archive:
        folder, _, base = member.name.rpartition('/')
        stem, _, suffix = base.partition('.')
        key, suffix = f'{folder}/{stem}' if folder else stem, suffix.lower()
        if not member.isfile() or not stem or not suffix:
          continue  # folders; hidden files, and what has no suffix
        if f'.{suffix}' in _scan.EXTENSIONS:
          if key in images:
            passed['images more of one key'] += 1
          else:
            images[key] = member.offset_data, member.size
        elif suffix in ('cls', 'json') and member.size < _LONGEST_LABEL:
          file = archive.extractfile(member)
          label = _label(file.read() if file else b'', suffix)
          if label is not None:
            labels.setdefault(key, label)
        elif suffix == 'txt' and member.size < _LONGEST_LABEL:
          file = archive.extractfile(member)
          data = file.read() if file else b''
          captions.setdefault(key, data.decode('utf-8', 'replace').strip())
        else:
          passed[f'.{suffix}'] += 1
  except (tarfile.TarError, OSError, EOFError) as error:
    hint = (
      ': it is compressed, unpack it'
      if pathlib.Path(shard).suffix in ('.gz', '.tgz', '.bz2', '.xz', '.zst')
      else ''
    )
    raise Error(f'{spec}: {shard} cannot be read ({error}){hint}') from error
  alone = labels.keys() - images.keys()
  if alone:
    passed['labels without an image'] += len(alone)
  return [
    _Sample(number, key, offset, size, labels.get(key), captions.get(key, ''))
    for key, (offset, size) in images.items()
  ]


def _label(data: bytes, suffix: str) -> str | None:
  """The label in a .cls or .json; None if there is none."""
  try:
    text = data.decode('utf-8')
    if suffix == 'json':
      value = json.loads(text)
      text = value.get('label') if isinstance(value, dict) else None
    return _table.text(text)
  except ValueError:
    return None


def _split(
  name: str,
  some: list[tuple[str, _Sample]],
  names: tuple[str, ...] | None,
  channels: int,
  short: dict[str, str],
) -> Split:
  shards = [shard for shard, _ in some]
  places = np.array([(s.offset, s.size) for _, s in some], np.int64)

  @functools.cache
  def opened(shard: str) -> int:
    return os.open(shard, os.O_RDONLY)

  def read_one(i: Any) -> bytes:
    offset, size = places[int(i)]
    data = os.pread(opened(shards[int(i)]), int(size), int(offset))
    return data  # shorter than its size, if the shard was cut: no image

  made = _files.of_files(
    name,
    lambda i: tf.ensure_shape(
      tf.numpy_function(read_one, [i], tf.string, stateful=False), []
    ),
    len(some),
    [s.label for _, s in some],
    names,
    channels,
  )
  keys = tuple(f'{short[shard]}/{s.key}' for shard, s in some)
  captions = tuple(s.caption for _, s in some)
  return dataclasses.replace(
    made, keys=keys, captions=captions if any(captions) else None
  )
