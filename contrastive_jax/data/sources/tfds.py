"""The data source tfds:NAME: any prepared TFDS dataset of images.

Examples are read straight from the files (TFRecord or array_record), in file
order: that is what an id counts. Small images are decoded once, other small
splits are kept in memory as they are; beyond that, records are read where they
lie, TFRecords from where a walk through the files found them to begin.

`tfds:NAME?split=unlabelled&test=test&image=photo&label=breed` names the parts
that are read, any of the four. What is left open is chosen by `_parts`, and
said in a note of the source.
"""

import concurrent.futures
import difflib
import functools
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import numpy as np

from contrastive_jax.config import Error, MissingError
from contrastive_jax.data import decode
from contrastive_jax.data.readers import RandomAccess
from contrastive_jax.data.sources import _parts
from contrastive_jax.data.split import Source, Split, from_arrays
from contrastive_jax.data.tensorflow_host import no_autograph, tf

import tensorflow_datasets as tfds  # isort: skip  (after hiding accelerators)

SPEC = 'tfds:NAME'

# Splits up to this size are kept in memory.
IN_MEMORY_BYTES = 2 * 1024**3
# Images of fixed shape up to this side are kept decoded.
_DECODED_SIDE = 128
# Files walked through side by side.
_WALKERS = 16
# Examples by whose labels it is judged whether there are any.
_LABELS_LOOKED_AT = 1000


def load(
  name: str, *, channels: int | None = None, data_dir: str | None = None
) -> Source:
  """Opens a TFDS dataset, and prepares it first where there is a network.

  Args:
    name: as TFDS knows it, with a config or version if need be; after a '?',
      which parts of it are read.
    channels: 1, 3, or None for what the dataset has.
    data_dir: TFDS's folder; None is TFDS_DATA_DIR or TFDS's default.

  Raises:
    ValueError, FileNotFoundError: one sentence that says what to do.
  """
  spec = f'tfds:{name}'
  asked = _parts.wanted(name)
  name = asked.name
  try:
    builder: Any = tfds.builder(name, data_dir=data_dir)
  except tfds.core.registered.DatasetNotFoundError as error:
    known = tfds.list_builders(with_community_datasets=False)
    near = difflib.get_close_matches(name.split('/')[0].split(':')[0], known)
    where = data_dir or tfds.core.constants.DATA_DIR
    raise Error(
      f'{spec}: TFDS knows no dataset of this name and none is prepared in'
      f' {where}' + (f'; near are {", ".join(near)}' if near else '')
    ) from error
  if not builder.is_prepared():
    _prepare(spec, name, builder)
  parts = _parts.choose(spec, builder, asked)
  read = functools.partial(
    _split, spec, builder, parts.image, parts.label, channels
  )
  train, test = read(parts.train), None
  for split in parts.tests:
    candidate = read(split)
    if test is None or candidate.num_classes == train.num_classes:
      test = candidate
    if test.num_classes == train.num_classes:
      break  # ImageNet's test has no labels, its validation split has
  used = [s.name.removeprefix(f'{spec} ') for s in (train, test) if s]
  unused = ', '.join(s for s in builder.info.splits if s not in used)
  notes = (
    f'{spec}: {parts.note}',
    f'trained on its split {used[0]}, '
    + (f'tested on {used[1]}' if test else 'there is no test split')
    + (f'; not used, but reached by ?split=NAME: {unused}' if unused else ''),
  )
  return Source(spec, train, test, notes=notes)


def _prepare(spec: str, name: str, builder) -> None:
  """Downloads and prepares; without a network, says so within seconds."""
  hosts = {urllib.parse.urlsplit(u).netloc for u in builder.url_infos}
  hosts = sorted(h for h in hosts if h)[:3] or ['storage.googleapis.com']
  advice = (
    f'run `tfds build {name}` where there is a network and copy its folder'
    ' here, name its parent in TFDS_DATA_DIR, or use folder:PATH or idx:PATH'
  )
  if not any(_reachable(host) for host in hosts):
    raise MissingError(
      f'{spec} is not prepared in {builder.data_dir} and {hosts[0]} cannot be'
      f' reached to download it: {advice}'
    )
  try:
    builder.download_and_prepare()
  except Exception as error:
    # TFDS raises all kinds: missing manual files, checksums, timeouts.
    reason = ' '.join(str(error).split())[:300]
    raise Error(
      f'{spec} is not prepared in {builder.data_dir} and preparing it failed'
      f' ({reason}): {advice}'
    ) from error


def _reachable(host: str) -> bool:
  """Whether a web server answers, with whatever status, through any proxy."""
  request = urllib.request.Request(f'https://{host}', method='HEAD')
  try:
    urllib.request.urlopen(request, timeout=5).close()
  except urllib.error.HTTPError:
    return True
  except OSError:
    return False
  return True


@no_autograph
def _split(
  spec: str,
  builder,
  image: str,
  label: str | None,
  channels: int | None,
  name: str,
) -> Split:
  """Makes a split in whichever of the four ways fits its size and format."""
  info = builder.info.splits[name]
  feature = builder.info.features[image]
  height, width, depth = feature.shape
  channels = channels or (1 if depth == 1 else 3)
  files = [str(path) for path in info.filepaths]
  schema: dict[str, Any] = {image: tf.io.FixedLenFeature([], tf.string)}
  if label:
    schema[label] = tf.io.FixedLenFeature([], tf.int64)

  def parse(record):
    example = tf.io.parse_single_example(record, schema)
    number = tf.cast(example[label], tf.int32) if label else tf.constant(-1)
    return example[image], number

  size = info.num_examples
  if builder.info.file_format.value == 'array_record':
    read = _random_access(files, parse)
    reader = RandomAccess(read, size, channels)
    ordered = tf.data.Dataset.range(size).map(
      read, num_parallel_calls=4, deterministic=True
    )
  else:
    reader = None
    ordered = tf.data.TFRecordDataset(files).map(parse)

  def names_of(labels: np.ndarray) -> tuple[str, ...] | None:
    # Splits without public labels (ImageNet's test) carry -1.
    if label is None or labels.max() < 0:
      return None
    return tuple(builder.info.features[label].names)

  side = max(height or IN_MEMORY_BYTES, width or IN_MEMORY_BYTES)
  if side <= _DECODED_SIDE and size * side * side * channels <= IN_MEMORY_BYTES:
    decoded = ordered.map(
      lambda x, n: (decode.decode_image(x, channels), n), num_parallel_calls=4
    )
    images, labels = _collect(spec, decoded)
    names = names_of(labels)
    return from_arrays(
      f'{spec} {name}', images, labels if names else None, names
    )
  in_memory = info.num_bytes <= IN_MEMORY_BYTES
  if not in_memory:
    # TFDS shuffles what it writes: the first labels are like all the others.
    ordered = ordered.take(_LABELS_LOOKED_AT).map(lambda _, n: (n, n))
  encoded, labels = _collect(spec, ordered)
  names = names_of(labels)
  if in_memory:
    encoded, table = tf.constant(encoded), tf.constant(labels)
    reader = RandomAccess(
      lambda i: (tf.gather(encoded, i), tf.gather(table, i)), size, channels
    )
  elif reader is None:
    read = _records(spec, files, info.shard_lengths, parse)
    reader = RandomAccess(read, size, channels)
  return Split(
    name=f'{spec} {name}',
    size=size,
    channels=channels,
    num_classes=len(names) if names else None,
    class_names=names,
    labels=labels if names and in_memory else None,
    image_shape=(height, width) if height and width else None,
    reader=reader,
  )


def _random_access(files: list[str], parse):
  """Returns the function id -> (encoded file, label) over array_record."""
  from array_record.python import array_record_data_source  # Linux, macOS

  records = array_record_data_source.ArrayRecordDataSource(files)

  def read(i):
    record = tf.numpy_function(
      lambda k: records[int(k)], [i], tf.string, stateful=False
    )
    return parse(tf.ensure_shape(record, []))

  return read


def _records(spec: str, files: list[str], lengths: list[int], parse):
  """Returns the function id -> (encoded file, label) over TFRecord files.

  The files are walked once, from length to length (1.3 million records take
  some seconds, more on a slow network), so that any record can be read where it
  lies: the order is that of any files, and a process reads the records of no
  other.
  """
  if '://' in files[0]:
    raise Error(
      f'{spec} lies at {files[0]}: TFRecords beyond '
      f'{IN_MEMORY_BYTES / 2**30:g} GiB are read at random, from a file system '
      'that is mounted; or prepare it as array_record (tfds build '
      '--file_format=array_record)'
    )
  with concurrent.futures.ThreadPoolExecutor(_WALKERS) as pool:
    begin = list(pool.map(_beginnings, files))
  for file, found, length in zip(files, begin, lengths, strict=True):
    if len(found) != length:
      raise Error(
        f'{spec} is damaged: {file} has {len(found):,} records, and not the '
        f'{length:,} that its data set tells of'
      )
  shards = tf.constant(np.repeat(np.arange(len(files)), lengths), tf.int32)
  names, offsets = tf.constant(files), tf.constant(np.concatenate(begin))

  @no_autograph
  def read(i):
    # Checks the record's sums; only the raw operation takes an offset.
    record = tf.raw_ops.TFRecordDatasetV2(
      filenames=names[shards[i]][None],
      compression_type='',
      buffer_size=tf.constant(0, tf.int64),
      byte_offsets=offsets[i][None],
    )
    spec = tf.TensorSpec([], tf.string)
    record = tf.data.experimental.from_variant(record, spec)
    return parse(record.take(1).get_single_element())

  return read


def _beginnings(path: str) -> np.ndarray:
  """Returns the offsets of a TFRecord file's records, in bytes, int64."""
  found, at = [], 0
  with open(path, 'rb', buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    while at < size:
      found.append(at)
      # The length, its sum, the record, its sum: 8, 4, length and 4 bytes.
      length = os.pread(file.fileno(), 8, at)
      at += 16 + int.from_bytes(length, 'little')
  return np.array(found, np.int64)


def _collect(spec: str, dataset) -> tuple[np.ndarray, np.ndarray]:
  """Reads a whole split into two arrays."""
  try:
    batches = list(dataset.batch(256).as_numpy_iterator())
  except tf.errors.OpError as error:
    raise Error(
      f'{spec} is damaged: {error.message.splitlines()[0]}'
    ) from error
  first, second = zip(*batches, strict=True)
  return np.concatenate(first), np.concatenate(second)
