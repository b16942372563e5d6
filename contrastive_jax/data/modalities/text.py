"""Text: sentences as numbers of tokens, padded to one of a few lengths.

Nothing is augmented here: what tells the views of a sentence apart is dropout,
or that they are two sentences which mean the same.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from contrastive_jax.config import Config, Error
from contrastive_jax.data import text_batches, tokenize
from contrastive_jax.data.modalities import Modality, Preview
from contrastive_jax.data.split import Split
from contrastive_jax.data.texts import Texts

VIEWS = ('same', 'pairs', 'negatives')
# Of the baseline: the words that are most frequent.
_WORDS = 1024
FILE = 'tokenizer.json'


def make(
  config: Config, split: Split, folder: pathlib.Path | None = None
) -> Modality:
  """Returns what host and device make of sentences.

  Args:
    config: `text` is used; where it leaves open how views are made, that
      follows from the columns that there are.
    split: of training.
    folder: of a run that may have begun: its tokenizer is the one.

  Returns:
    The modality. Views are {'tokens', int32 [b, length], 'length', int32 [b]}.

  Raises:
    Error: the config and the texts do not fit together.
  """
  c, texts = config.text, split.reader
  assert isinstance(texts, Texts)
  scored = sum(map(math.isfinite, texts.score))
  if c.views == 'all':
    # A pair with a score need not mean the same.
    beside = () if scored else (texts.pair, texts.negative)
    c.views = VIEWS[sum(map(bool, beside))]
  _check(config, texts, split.name)
  every = (*texts.text, *filter(None, texts.pair), *texts.negative)
  tokenizer, note = tokenizer_of(c, every, folder)
  made = functools.partial(tokenize.tokenized, tokenizer, longest=c.max_length)
  allowed = tokenize.lengths_up_to(c.max_length)

  @functools.cache
  def columns(split: Split) -> list[tokenize.Tokenized]:
    # The same sentence twice is tokenized once.
    found = {c: made(c) for c in set(split.reader.columns(config.text.views))}
    return [found[c] for c in split.reader.columns(config.text.views)]

  @functools.cache
  def sentences(split: Split) -> tokenize.Tokenized:
    return made(split.reader.text)

  def of_texts(some: Sequence[str]) -> dict[str, np.ndarray]:
    return made(some).rows(np.arange(len(some)), c.max_length)

  def eval_batches(split: Any, **options: Any):
    own = sentences(split)

    def rows(ids):
      longest = own.lengths(ids).max()
      return own.rows(ids, next(n for n in allowed if n >= longest))

    return text_batches.eval_batches(split, rows, **options)

  def written(view: dict[str, Any]) -> list[str]:
    return tokenize.written(tokenizer, view['tokens'], view['length'])

  def example_views(rows: int) -> tuple[dict[str, Any], ...]:
    return (tokenize.example(rows, c.max_length),) * _count(c.views)

  return Modality(
    input_shape=(c.max_length,),
    plural='sentences',
    described=f'at most {c.max_length} tokens',
    vocabulary=tokenize.size(tokenizer),
    of_texts=of_texts,
    global_views=_count(c.views),
    train_batches=lambda split, **options: text_batches.TrainBatches(
      split, columns(split), allowed, **options
    ),
    views=lambda batch: batch['views'],
    example_views=example_views,
    eval_batches=eval_batches,
    frozen_input=lambda rows: rows,
    baseline=('bag of words', _bag_of_words(split)),
    preview=Preview(
      lambda batch: tuple(map(written, batch['views'])),
      lambda reader, i: reader.text[i],
      _TITLES[c.views],
      ('what is left of each, written again; dropout is not shown',),
      lambda split, limit=None, **_: dict(enumerate(split.reader.text[:limit])),
    ),
    files={FILE: tokenizer},
    notes=(
      note,
      *lengths(sentences(split), c.max_length),
      *_alone(texts, c.views),
      *_scored(scored, c.views),
    ),
  )


_TITLES = {
  'same': ('sentence', 'again'),
  'pairs': ('sentence', 'pair'),
  'negatives': ('sentence', 'pair', 'hard negative'),
}


def _count(views: str) -> int:
  return len(_TITLES[views])


def _check(config: Config, texts: Texts, name: str) -> None:
  c = config.text
  if c.views not in VIEWS:
    raise Error(f"text.views is '{c.views}': it may be {', '.join(VIEWS)}")
  for views, column in (('pairs', 'pair'), ('negatives', 'negative')):
    if VIEWS.index(c.views) >= VIEWS.index(views) and not getattr(
      texts, column
    ):
      raise Error(
        f"text.views is '{c.views}', and {name} has no column {column}"
      )
  if c.max_length < 4:
    raise Error(f'text.max_length is {c.max_length}: it must be at least 4')


def tokenizer_of(
  c: Any, sentences: Sequence[str], folder: pathlib.Path | None
) -> tuple[str, str]:
  """Returns the JSON of the tokenizer of a run, and where it is from.

  Args:
    c: the config's `text`.
    sentences: of training, that one may be fitted to.
    folder: see `modalities.make`.

  Raises:
    Error: there is no such tokenizer.
  """
  # Without a checkpoint it is of a run that never was.
  begun = folder and any((folder / 'checkpoints').glob('*'))
  if folder and begun and (folder / FILE).is_file():
    found = tokenize.read(folder / FILE)
    origin = 'of the run'
  elif c.tokenizer:
    found = tokenize.read(c.tokenizer)
    origin = f'of {c.tokenizer}'
  else:
    found = tokenize.fit(sentences, c.vocabulary)
    origin = f'a byte-level BPE, fitted to {len(sentences):,} sentences'
  return found, (f'tokenizer {origin}: {tokenize.size(found):,} tokens, {FILE}')


def lengths(sentences: tokenize.Tokenized, longest: int) -> tuple[str, ...]:
  """Returns a line about how long sentences are, and how many are cut.

  Args:
    sentences: any.
    longest: tokens that are left of one.
  """
  found = np.diff(sentences.starts)
  cut = np.mean(found >= longest)
  return (
    f'sentences have {np.mean(found):.1f} tokens on average, at most '
    f'{found.max()}'
    + (f'; {cut:.1%} have {longest} or are cut there' if cut else ''),
  )


def _alone(texts: Texts, views: str) -> tuple[str, ...]:
  """Says how many sentences stand for a pair that they have not."""
  if views == 'same' or not (alone := sum(not pair for pair in texts.pair)):
    return ()
  return (
    f'{alone:,} of {len(texts.text):,} sentences have no pair: their own other '
    "view is one (text.views='same' makes that of all)",
  )


def _scored(count: int, views: str) -> tuple[str, ...]:
  """Says what becomes of pairs of which people said how alike they are."""
  if not count:
    return ()
  if views == 'same':
    return (f'{count:,} pairs have a score and are not trained on as such',)
  return (f'{count:,} pairs have a score: they are taken to mean the same',)


def _bag_of_words(split: Split) -> Callable[..., Any]:
  """Returns what makes batches of TF-IDF vectors, fitted to training texts."""

  @functools.cache
  def vectorizer() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    make: Any = TfidfVectorizer
    made = make(sublinear_tf=True, max_features=_WORDS, dtype=np.float32)
    return made.fit(split.reader.text)

  def batches(other: Any, **options: Any):
    texts = other.reader.text

    def rows(ids):
      return vectorizer().transform([texts[i] for i in ids]).toarray()

    return text_batches.eval_batches(other, rows, **options)

  return batches
