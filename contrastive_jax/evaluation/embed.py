"""What a run's encoder makes of any images: one vector each, in order."""

import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from contrastive_jax.config import Error
from contrastive_jax.data import labels as labels_lib
from contrastive_jax.data import sources
from contrastive_jax.data import split as split_lib
from contrastive_jax.data.split import Source, Split
from contrastive_jax.evaluation import encoder, features
from contrastive_jax.evaluation.store import Store
from contrastive_jax.training import build, identity
from contrastive_jax.training.state import TrainState

# So many images are lost at most by a kill; whole batches, so about that.
_CHUNK = 4096
_NAMED = 10  # unreadable images that are named
SPLITS = ('train', 'test')


class Opened(NamedTuple):
  """A checkpoint of a run, and the images that it is put to.

  Attributes:
    job: of the run.
    state: of the checkpoint.
    source: of the images; the run's own if no others were named.
    splits: those that were asked for, by 'train' and 'test'.
    about: what was asked for, in words, for whoever finds the file.
  """

  job: build.Job
  state: TrainState
  source: Source
  splits: dict[str, Split]
  about: dict[str, Any]


class Embedded(NamedTuple):
  """Vectors of images, in the order of the splits and of the ids in each.

  Attributes:
    vectors: float32 [n, d]; they lie on the disk.
    labels: int32 [n], -1 where there is none.
    numbers: int32 [n]: an image's id, after the sizes of the splits before.
    unreadable: numbers of the images that could not be read.
    splits: as `Opened` has them.
    about: what they are, in words.
    store: what keeps them until all that is made of them is written.
  """

  vectors: np.ndarray
  labels: np.ndarray
  numbers: np.ndarray
  unreadable: list[int]
  splits: dict[str, Split]
  about: dict[str, Any]
  store: Store

  def places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns which of the splits each number is in, and its id there."""
    ends = np.cumsum([split.size for split in self.splits.values()])
    which = np.searchsorted(ends, numbers, side='right')
    return which, numbers - np.concatenate([[0], ends])[which]

  def names(self, numbers: Sequence[int] | np.ndarray) -> list[str]:
    """Returns paths, or 'digits test #3', of images by their numbers."""
    splits = list(self.splits.values())
    which, ids = self.places(np.asarray(numbers, np.int64))
    pairs = zip(which, ids, strict=True)
    return [splits[s].describe(int(i)) for s, i in pairs]

  def sentences(self) -> bool:
    """Returns whether they are of sentences, and not of images."""
    return all(hasattr(s.reader, 'text') for s in self.splits.values())

  def has_texts(self) -> bool:
    """Returns whether each is of a text, or of an image with one."""
    return self.sentences() or all(s.captions for s in self.splits.values())

  def texts(self, numbers: np.ndarray) -> list[str]:
    """Returns these texts, by their numbers, if it `has_texts`."""
    of_splits: list[Any] = [
      getattr(split.reader, 'text', None) or split.captions
      for split in self.splits.values()
    ]
    which, ids = self.places(numbers)
    return [of_splits[s][i] for s, i in zip(which, ids, strict=True)]

  def class_names(self) -> tuple[str, ...]:
    """Returns the names of the labels, none where there are no labels."""
    found = [split.class_names for split in self.splits.values()]
    return max(filter(None, found), key=len, default=())


def opened(
  workdir: str | pathlib.Path,
  images: str | None = None,
  *,
  split: str = 'all',
  step: int | None = None,
  source: Source | None = None,
  say: Callable[[str], Any] = print,
) -> Opened:
  """Opens a checkpoint of a run, and images.

  Args:
    workdir: of the run; nothing in it is changed.
    images: a data source; None: the run's own.
    split: 'train', 'test' or 'all'.
    step: of the checkpoint; None: the newest.
    source: of a run that was given its data in memory; None: config.data's.
    say: takes what is to be known of the images, a line each.

  Raises:
    Error: no run, no such images, or none that the encoder can take.
  """
  job, state = encoder.load(workdir, step, source)
  found = job.source if images is None else other_source(job, images, say)
  every = {'train': found.train, 'test': found.test}
  splits = {
    name: part
    for name, part in every.items()
    if part is not None and split in (name, 'all')
  }
  if not splits:
    raise Error(f'{found.name} has no {split} split: there is --split=train')
  about = {
    'workdir': os.path.abspath(workdir),
    'step': int(state.step),
    'images': found.name,
    'split': split,
  }
  return Opened(job, state, found, splits, about)


def other_source(
  job: build.Job,
  spec: str,
  say: Callable[[str], Any],
  training: bool = False,
) -> Source:
  """Returns other data, as a run's encoder can take it.

  Args:
    job: of the run.
    spec: of the data source.
    say: takes what is to be known of it, a line each.
    training: whether anything, a probe perhaps, is to be trained on it.

  Raises:
    Error: there is no such data, or it is of another kind.
  """
  channels, data = job.source.train.channels, job.config.data
  found = labels_lib.checked(
    sources.load(
      spec,
      channels=channels or None,  # text has none
      background=data.background,
      maximum=data.maximum,
      training=training,
    )
  )
  for note in found.notes:
    say(note)
  if found.modality != job.source.modality:
    raise Error(
      f'{found.name} has {found.modality}, and the run is of '
      f'{job.source.modality}'
    )
  if found.train.channels != channels:
    raise Error(
      f'{found.name} has images of {found.train.channels} channels, and the '
      f"run's have {channels}"
    )
  return found


def of_texts(given: Opened, layer: str, texts: Sequence[str]) -> np.ndarray:
  """Returns the vectors of texts, float32 [n, d], to search with.

  Args:
    given: of `opened`.
    layer: in whose space they are to be.
    texts: at least one.

  Raises:
    Error: the run has no text, or not in this layer's space.
  """
  job = given.job
  if job.modality.of_texts is None:
    raise Error('the run knows no text: it can be searched by images alone')
  if job.objective.text_modules:
    image, text = job.objective.common_space()
    if layer not in (image, text):
      raise Error(
        f'texts are in no common space with {layer}: --layer={image} is for '
        f'images, --layer={text} for their texts'
      )
    layer = text
  return encoder.encode_texts(
    job, encoder.frozen(job, layer)(given.state), texts
  )


def size(given: Opened) -> int:
  """Returns how many images there are, readable or not."""
  return sum(split.size for split in given.splits.values())


def folder(spec: str) -> str | None:
  """Returns the folder that a data source `folder:PATH` reads, or None."""
  kind, _, where = spec.partition(':')
  return os.path.expanduser(where) if kind == 'folder' and where else None


def left_out(unreadable: Sequence[str]) -> list[str]:
  """Returns a line about images that could not be read, if there are any.

  Args:
    unreadable: their names.
  """
  if not unreadable:
    return []
  more = ', ...' if len(unreadable) > _NAMED else ''
  return [
    f'left out, as they cannot be read: {len(unreadable):,} '
    f'({", ".join(unreadable[:_NAMED])}{more})'
  ]


def compute(
  given: Opened,
  encode: encoder.Encoder,
  folder: str | pathlib.Path,
  about: dict[str, Any],
  *,
  ids: dict[str, np.ndarray] | None = None,
  whole_image: bool = False,
  texts: bool = False,
  say: Callable[[str], Any] = print,
) -> Embedded:
  """Computes a vector of each image once, and goes on where it was killed.

  Batches are read ahead and divided among the devices, of all processes if
  there are several; process 0 alone writes.

  Args:
    given: of `opened`.
    encode: of `encoder.frozen`, or another function of images like it.
    folder: keeps what is done until `Embedded.store.remove`.
    about: what else the vectors depend on, in words.
    ids: of each split some ids, rising; None: all.
    whole_image: squeezes all of an image into the square that the encoder
      takes, where evaluation sees the central part.
    texts: of the texts beside the images, by a layer of the text tower.
    say: is told if it goes on from an earlier call.

  Returns:
    The vectors; of unreadable images there are none, but their numbers.

  Raises:
    Error: the folder is of another call, or a vector is not finite.
  """
  if whole_image and (given.source.modality != 'images' or texts):
    raise Error('--whole_image is of images, and these are texts')
  for split in given.splits.values():
    without = sum(not text for text in split.captions or [''] * split.size)
    if texts and without:
      raise Error(f'{without:,} of {split.size:,} of {split.name} have no text')
  crop = 'the whole image' if whole_image else given.job.config.data.eval_crop
  about = {**given.about, **about, 'crop': crop}
  if ids is None:
    ids = {name: np.arange(split.size) for name, split in given.splits.items()}
  request = {
    **about,
    'encoder': encoder.fingerprint(encode),
    'data': [identity.of_data(split) for split in given.splits.values()],
    'ids': [len(some) for some in ids.values()],
  }
  store = Store(folder, request)
  # Before any chunk is added: all processes begin at the same one.
  done = int(multihost_utils.broadcast_one_to_all(np.int32(store.done)))
  if done:
    say(f'{done:,} images are done already')
  offset, before = 0, 0
  try:
    for name, split in given.splits.items():
      left = ids[name][max(0, done - before) :]
      if len(left):
        make = encoder.eval_batches(given.job, texts)
        if whole_image:
          make = functools.partial(make, crop=None)
        _split(given.job, encode, split, make, left, offset, store)
      offset += split.size
      before += len(ids[name])
  finally:
    store.close()
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('embedded')
    store = Store(folder, request)  # as process 0 has written it
  vectors, labels, numbers = store.arrays()
  found = Embedded(
    vectors, labels, numbers, store.unreadable, given.splits, about, store
  )
  if not len(vectors):
    raise Error(f'none of the images of {given.source.name} can be read')
  features.check_finite(vectors, 'image')
  return found


def _split(
  job: build.Job,
  encode: encoder.Encoder,
  split: Split,
  make: Callable[..., Any],
  ids: np.ndarray,
  offset: int,
  store: Store,
) -> None:
  """Appends some images of a split to the store, in chunks."""
  some = split
  if len(ids) < split.size:
    some = split_lib.subset(split, ids, 'in part')
  batch_size = encoder.batch_size(job, len(ids))
  count = max(1, _CHUNK // batch_size)
  batches = make(
    some,
    batch_size=batch_size,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    limit=None,
  )
  for start in range(0, len(ids), count * batch_size):
    wanted = ids[start : start + count * batch_size]
    vectors, labels, found = features.extract(
      encode,
      itertools.islice(batches, count),
      mesh=job.mesh,
      may_be_none=True,
    )
    found = ids[found]
    if jax.process_index() == 0:
      store.append(
        vectors,
        labels if split.num_classes else np.full_like(labels, -1),
        found + offset,
        images=len(wanted),
        unreadable=[int(i) + offset for i in np.setdiff1d(wanted, found)],
      )
