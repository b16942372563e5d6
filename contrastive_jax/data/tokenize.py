"""Sentences to numbers: a tokenizer that is read, or fitted to the data."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.config import Error, MissingError

# Of a tokenizer that is fitted; their numbers are 0, 1, 2.
PAD, FIRST, LAST = '<pad>', '<s>', '</s>'
# What others call the first of them.
_PADS = (PAD, '[PAD]', '<PAD>', '<|endoftext|>')
# Of a batch; sentences are padded to the least of them that holds the longest,
# so that a step is compiled a few times and no more.
_LENGTHS = (8, 16, 32, 64, 128, 256, 512)


class Tokenized(NamedTuple):
  """Sentences as numbers.

  `tokens` is int32 [all of them], those of sentence i from starts[i] on;
  `starts` int64 [n + 1]; `pad` the number that stands where a sentence is over.
  """

  tokens: np.ndarray
  starts: np.ndarray
  pad: int

  def lengths(self, ids: np.ndarray) -> np.ndarray:
    """Returns the numbers of tokens of some sentences."""
    return (self.starts[ids + 1] - self.starts[ids]).astype(np.int32)

  def rows(self, ids: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """Returns some sentences, padded.

    Args:
      ids: int [b].
      length: that holds the longest of them.

    Returns:
      'tokens', int32 [b, length], and 'length', int32 [b], of each sentence.
    """
    tokens = np.full((len(ids), length), self.pad, np.int32)
    for row, i in zip(tokens, ids, strict=True):
      own = self.tokens[self.starts[i] : self.starts[i + 1]]
      row[: len(own)] = own
    return {'tokens': tokens, 'length': self.lengths(ids)}


def lengths_up_to(longest: int) -> list[int]:
  """Returns the lengths that batches may have.

  Args:
    longest: tokens of a sentence.
  """
  return [n for n in _LENGTHS if n < longest] + [longest]


def fit(texts: Sequence[str], vocabulary: int) -> str:
  """Fits a byte-level BPE: the merges of bytes that are most frequent.

  Args:
    texts: the sentences of training; the same ones give the same tokenizer.
    vocabulary: most numbers that it has; 256 are of single bytes, so that it
      can write any text.

  Returns:
    The tokenizer, in the JSON of the library `tokenizers`.

  Raises:
    Error: the vocabulary does not hold the bytes.

  Reference: Sennrich et al. 2016 (1508.07909); of bytes: Radford et al. 2019
  (GPT-2), section 2.2.
  """
  if vocabulary < 300:
    raise Error(
      f'text.vocabulary is {vocabulary}: 256 are for single bytes, it must be '
      'at least 300'
    )
  return _fitted(tuple(texts), vocabulary)


@functools.lru_cache(maxsize=2)
def _fitted(texts: tuple[str, ...], vocabulary: int) -> str:
  library = _library()
  tokenizer = library.Tokenizer(library.models.BPE())
  tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel()
  tokenizer.decoder = library.decoders.ByteLevel()
  tokenizer.train_from_iterator(
    texts,
    library.trainers.BpeTrainer(
      vocab_size=vocabulary,
      min_frequency=2,
      special_tokens=[PAD, FIRST, LAST],
      initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
    ),
  )
  tokenizer.post_processor = library.processors.TemplateProcessing(
    single=f'{FIRST} $A {LAST}', special_tokens=[(FIRST, 1), (LAST, 2)]
  )
  return tokenizer.to_str(pretty=True)


def read(path: str | pathlib.Path) -> str:
  """Returns what a tokenizer.json holds.

  Args:
    path: of the file.

  Raises:
    Error: it is not there, or no such file.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise MissingError(f'there is no tokenizer {path} (text.tokenizer)')
  try:
    text = path.read_text(encoding='utf-8')
    _library().Tokenizer.from_str(text)
  except Exception as error:  # the library raises Exception itself
    if isinstance(error, Error):
      raise
    raise Error(f'{path} is no tokenizer.json: {error}') from error
  return text


def size(tokenizer: str) -> int:
  """Returns how many numbers a tokenizer has.

  Args:
    tokenizer: of `fit` or `read`.
  """
  return _opened(tokenizer).get_vocab_size()


def tokenized(tokenizer: str, texts: Sequence[str], longest: int) -> Tokenized:
  """Returns sentences as numbers.

  Args:
    tokenizer: of `fit` or `read`; what it puts around a sentence, it puts.
    texts: the sentences.
    longest: tokens of a sentence, these included; what follows is left out.
  """
  made = _opened(tokenizer)
  made.no_padding()
  made.enable_truncation(longest)
  pad = next((n for p in _PADS if (n := made.token_to_id(p)) is not None), 0)
  # Fast: without the places in the text, which nobody asks for.
  rows = [e.ids for e in made.encode_batch_fast(list(texts))]
  lengths = np.fromiter(map(len, rows), np.int64, len(rows))
  starts = np.concatenate([[0], np.cumsum(lengths)])
  tokens = np.fromiter(
    (number for row in rows for number in row), np.int32, starts[-1]
  )
  return Tokenized(tokens, starts, pad)


def written(
  tokenizer: str, tokens: np.ndarray, length: np.ndarray
) -> list[str]:
  """Returns the texts of `Tokenized.rows`: what an encoder knows of them.

  Args:
    tokenizer: of `fit` or `read`.
    tokens: int32 [b, n].
    length: int32 [b].
  """
  made = _opened(tokenizer)
  rows = zip(tokens, length, strict=True)
  return [made.decode(row[:n].tolist()).strip() for row, n in rows]


def example(rows: int, longest: int) -> dict[str, np.ndarray]:
  """Returns what `Tokenized.rows` makes of sentences as long as they may be.

  Args:
    rows: how many.
    longest: tokens of each.
  """
  return {
    'tokens': np.zeros((rows, longest), np.int32),
    'length': np.full((rows,), longest, np.int32),
  }


# A vocabulary takes a while to read, and texts come some at a time.
@functools.lru_cache(maxsize=4)
def _opened(tokenizer: str) -> Any:
  return _library().Tokenizer.from_str(tokenizer)


def _library() -> Any:
  try:
    import tokenizers
  except ImportError as error:
    raise Error(
      "text needs the library tokenizers: pip install 'contrastive_jax[text]'"
    ) from error
  return tokenizers
