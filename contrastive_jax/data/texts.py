"""Texts in memory: a reader of examples that are sentences."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
  """A sentence an example, and perhaps what goes with it.

  Attributes:
    text: of each example.
    pair: a text that means the same, '' where there is none; () if there is no
      such column.
    negative: of each pair one that does not; () if there is no such column.
    score: how alike people found the two, NaN where nobody was asked; () if
      there is no such column.
  """

  text: tuple[str, ...]
  pair: tuple[str, ...] = ()
  negative: tuple[str, ...] = ()
  score: tuple[float, ...] = ()

  def subset(self, ids: np.ndarray) -> 'Texts':
    """Returns some of the examples, numbered anew."""
    return Texts(
      *(
        tuple(column[i] for i in ids) if column else ()
        for column in (self.text, self.pair, self.negative, self.score)
      )
    )

  def columns(self, views: str) -> list[tuple[str, ...]]:
    """Returns the texts that each view is made of.

    Args:
      views: 'same', each sentence twice; 'pairs', it and its pair, itself where
        there is none; 'negatives', and a third that means something else.
    """
    if views == 'same':
      return [self.text, self.text]
    pairs = zip(self.text, self.pair, strict=True)
    found = [self.text, tuple(pair or text for text, pair in pairs)]
    return [*found, self.negative] if views == 'negatives' else found
