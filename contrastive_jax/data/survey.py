"""What a source's files are: some are looked at before anything is decoded.

From these follow how many channels the images have, and what is white where
they have more than 8 bits; the notes count kinds, colors and sizes.
"""

import collections
import dataclasses
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from contrastive_jax.config import Error
from contrastive_jax.data import headers, pixels, readers, scaling
from contrastive_jax.data.headers import Header
from contrastive_jax.data.split import Source, Split

# Files of each split whose headers are read: enough to find what one in a
# hundred has, and quick on a network drive.
_LOOKED_AT = 200
# Of these so many are read whole, for the largest value of more than 8 bits.
_READ_WHOLE = 32
_DEEP = ('uint16', 'float')

_SAID = {
  'turned': 'are turned, as their EXIF data say',
  'animated': 'have several pages or frames, of which the first is taken',
}


def settled(
  source: Source,
  channels: int | None,
  background: tuple[float, ...],
  maximum: float,
) -> Source:
  """Returns a source whose readers know how to decode, with notes.

  Args:
    source: of images; those in memory are decoded already.
    channels: that are wanted; None: those that most files have, 3 of gray ones.
    background: what shows through alpha, a gray or RGB in [0, 1].
    maximum: that the user says is white; 0: by the rule of `scaling`.

  Raises:
    Error: values whose white is not known; one sentence.
  """
  splits = [
    s
    for s in (source.train, source.test)
    if s is not None and not isinstance(s.reader, readers.InMemory)
  ]
  looked = [_look(split) for split in splits]
  seen = [header for found, _ in looked for header in found.values()]
  if not seen:
    return source  # in memory; or nothing is an image, which is said later
  count = sum(number for _, number in looked)
  own = looked[0][0] if splits[0] is source.train else {}
  channels = channels or _channels(source.train, own)
  white, white_notes = _white(source.train, own, maximum)
  notes = [
    _counts(source.name, seen, count),
    *white_notes,
    *_findings(seen, background),
    *_warnings(seen, count, channels),
  ]

  def how(split: Split) -> Split:
    if split not in splits:
      return split
    reader: Any = split.reader
    reader = dataclasses.replace(
      reader, channels=channels, background=background, maximum=white
    )
    return dataclasses.replace(
      split, channels=channels, maximum=white, reader=reader
    )

  return source._replace(
    train=how(source.train),
    test=source.test and how(source.test),
    notes=(*source.notes, *notes),
  )


def _look(split: Split) -> tuple[dict[int, Header], int]:
  """Returns the headers of some of a split's files, evenly spread, by id.

  And how many files these are: of what is no image there is none.
  """
  size = min(_LOOKED_AT, split.size)
  found = {}
  for i, file in _some(split, size):
    with file:
      if header := headers.look(file):
        found[i] = header
  return found, size


def _some(split: Split, size: int) -> Iterator[tuple[int, BinaryIO]]:
  for i in np.unique(np.linspace(0, split.size - 1, size).astype(int)):
    try:
      file = headers.opened(split, int(i))
    except Exception:  # whatever it is: the pipeline passes over it, too
      file = io.BytesIO()
    yield int(i), file


def _channels(split: Split, looked: dict[int, Header]) -> int:
  """Returns what most files have; as it is if that is gray or RGB."""
  counts = collections.Counter(h.channels for h in looked.values())
  common = counts.most_common(1)[0][0] if counts else 3
  return split.channels if common in (1, 3) else common


def _white(
  split: Split, looked: dict[int, Header], maximum: float
) -> tuple[float, list[str]]:
  """Returns the white of the files with more than 8 bits; 0: there are none."""
  deep = [i for i, h in looked.items() if h.depth in _DEEP]
  if not deep:
    return 0.0, []
  floats = sum(looked[i].depth == 'float' for i in deep)
  if 0 < floats < len(deep):
    raise Error(
      f'{split.name}: of {len(looked):,} images that were looked at, '
      f'{len(deep) - floats:,} hold 16-bit values and {floats:,} floats, and '
      'no rule says what is white in both: put them into two folders'
    )
  chosen = np.unique(np.linspace(0, len(deep) - 1, _READ_WHOLE).astype(int))
  ranges = []
  for i in chosen:
    try:
      with headers.opened(split, deep[i]) as file:
        image, alpha, _ = pixels.stored(file.read())
    except Exception:  # damaged: the pipeline passes over it, too
      continue
    try:
      values = scaling.seen(image[..., :-1] if alpha else image)
    except Error as error:
      raise Error(f'{split.describe(deep[i])}: {error}') from error
    if values is not None:
      ranges.append(values)
  if not ranges:
    return 0.0, []
  values = scaling.Seen(
    ranges[0].kind, min(r.least for r in ranges), max(r.most for r in ranges)
  )
  name = f'{split.name}, {len(ranges):,} of its images'
  white, note = scaling.white(values, maximum, name)
  return white, [note]


def _counts(name: str, seen: list[Header], count: int) -> str:
  """Returns the line that counts kinds, colors and sizes."""
  kinds = collections.Counter(h.kind for h in seen)
  modes = collections.Counter(
    h.mode
    + (' with alpha' if 'alpha' in h.found else '')
    + {'uint8': '', 'uint16': ' of 16 bits'}.get(h.depth, f' of {h.depth}')
    for h in seen
  )
  sizes = sorted((h.width * h.height, h.width, h.height) for h in seen)
  sizes = [s for s in sizes if s[0]] or sizes  # 0: it was too large to say
  low, middle, high = (
    '{1:,} x {2:,}'.format(*sizes[i]) for i in (0, len(sizes) // 2, -1)
  )
  size = f'all {low}' if low == high else f'{low} to {high}, median {middle}'
  text = f'{name}, {count:,} images looked at: {_list(kinds)}; {_list(modes)}'
  return f'{text}; width x height {size}'


def _findings(seen: list[Header], background: tuple[float, ...]) -> list[str]:
  """Returns a line that counts what is done to files, if there is anything."""
  counts = collections.Counter(kind for h in seen for kind in h.found)
  color = ', '.join(f'{x:g}' for x in background)
  color = {'1': 'white', '0': 'black'}.get(color, color)
  said = {'alpha': f'have alpha and lie on {color} (data.background)'} | _SAID
  parts = [f'{counts[k]:,} {text}' for k, text in said.items() if counts[k]]
  return ['of these ' + '; '.join(parts)] if parts else []


def _warnings(seen: list[Header], count: int, channels: int) -> list[str]:
  """Returns a line that counts what is or may be lost, if there is anything."""
  parts = []
  if cmyk := sum('cmyk' in h.found for h in seen):
    parts.append(
      f"{cmyk:,} are CMYK without Adobe's marker: their colors may be inverted"
    )
  if broken := count - len(seen):
    parts.append(f'{broken:,} are no images, and will be passed over')
  strange = (h.depth for h in seen if h.depth not in ('uint8', *_DEEP))
  for depth, number in collections.Counter(strange).items():
    parts.append(f'{number:,} hold {depth} values, and will be passed over')
  fitting = {1, 3} if channels in (1, 3) else {channels}
  if others := sum(h.channels not in fitting for h in seen):
    parts.append(
      f'{others:,} do not have {channels} channels as most, and will be passed '
      'over'
    )
  if not parts:
    return []
  text = f'warning: of {count:,} images that were looked at, '
  return [text + '; '.join(parts)]


def _list(counts: collections.Counter) -> str:
  return ', '.join(f'{name} ({n:,})' for name, n in counts.most_common())
