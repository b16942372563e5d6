"""An image and its text: a crop of the one, the tokens of the other."""

import functools
import pathlib
from typing import Any

import numpy as np

from contrastive_jax.config import Config, Error
from contrastive_jax.data import text_batches as text_batches_lib
from contrastive_jax.data import tokenize
from contrastive_jax.data.modalities import Modality, Preview, images, text
from contrastive_jax.data.split import Split


class _TrainBatches:
  """Batches of images, with the tokens of each; see `modalities`."""

  def __init__(self, batches: Any, texts: tokenize.Tokenized, longest: int):
    self._batches, self._texts, self._longest = batches, texts, longest

  @property
  def unreadable(self) -> dict[int, str]:
    return self._batches.unreadable

  def __iter__(self):
    return self

  def __next__(self) -> dict[str, Any]:
    batch = next(self._batches)
    # Of the image that is there, which may stand in for another. All have one
    # length: another process need not know which ones these are.
    rows = self._texts.rows(np.asarray(batch['id']), self._longest)
    return {**batch, 'views': (*batch['views'], rows)}

  def close(self) -> None:
    self._batches.close()


def make(
  config: Config, split: Split, folder: pathlib.Path | None = None
) -> Modality:
  """Returns what host and device make of images and their texts.

  Args:
    config: as for images, with one view of each, and `text` as for text.
    split: of training, with captions.
    folder: see `modalities.make`.

  Raises:
    Error: an image has no caption, or the config asks for more views.
  """
  of_images = images.make(config, split)
  _check(config, split)
  c = config.text
  captions = split.captions or ()
  tokenizer, note = text.tokenizer_of(c, captions, folder)
  made = functools.partial(tokenize.tokenized, tokenizer, longest=c.max_length)

  @functools.cache
  def texts(split: Split) -> tokenize.Tokenized:
    return made(split.captions or ())

  def of_texts(some):
    return made(some).rows(np.arange(len(some)), c.max_length)

  def text_batches(split: Any, **options: Any):
    def rows(ids):
      return texts(split).rows(ids, c.max_length)

    return text_batches_lib.eval_batches(split, rows, **options)

  def alone(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, 'views': batch['views'][:1]}

  def pair(make_views):
    return lambda batch: (*make_views(alone(batch)), batch['views'][1])

  def either(function):
    """Text goes through as it is."""
    return lambda x: x if isinstance(x, dict) and 'tokens' in x else function(x)

  def example_views(rows: int) -> tuple[Any, ...]:
    return *of_images.example_views(rows), tokenize.example(rows, c.max_length)

  def written(batch: dict[str, Any]) -> tuple[Any, ...]:
    rows = batch['views'][1]
    (crops,) = of_images.preview.views(alone(batch))
    found = tokenize.written(tokenizer, rows['tokens'], rows['length'])
    return crops, found

  assert of_images.raw_views is not None
  return of_images._replace(
    train_batches=lambda split, **options: _TrainBatches(
      of_images.train_batches(split, **options), texts(split), c.max_length
    ),
    views=pair(of_images.views),
    raw_views=pair(of_images.raw_views),
    render=either(of_images.render),
    places=None,
    example_views=example_views,
    frozen_input=either(of_images.frozen_input),
    text_batches=text_batches,
    plural='pairs',
    of_texts=of_texts,
    vocabulary=tokenize.size(tokenizer),
    global_views=2,
    files={text.FILE: tokenizer},
    preview=Preview(
      written,
      of_images.preview.example,
      ('view', 'text'),
      of_images.preview.caption,
      of_images.preview.pictures,
    ),
    notes=(*of_images.notes, note, *text.lengths(texts(split), c.max_length)),
  )


def _check(config: Config, split: Split) -> None:
  if split.captions is None:
    raise Error(
      f'{split.name} has no texts beside its images, and text_encoder.name is '
      f'{config.text_encoder.name}: give image_text:FOLDER, a table with a '
      'column caption, or shards with .txt'
    )
  if missing := sum(not caption for caption in split.captions):
    raise Error(
      f'{missing:,} of {split.size:,} images of {split.name} have no caption'
    )
  if len(config.augment.blur) != 1 or config.augment.local_crops:
    raise Error(
      'an image with its text has one view: augment.blur is for '
      f'{len(config.augment.blur)} views, augment.local_crops is '
      f'{config.augment.local_crops}'
    )
