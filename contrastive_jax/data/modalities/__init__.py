"""What an example is: the contract of a modality. Images, text, and both.

Objectives, the step and the loop take views as opaque pytrees; all that knows
what is in them stands in one module here, with `make(config, split, folder) ->
Modality`, found by `Source.modality`. Adding a modality is adding a file;
`package.module:function` is one outside of this package.
"""

import pathlib
import pkgutil
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from contrastive_jax.config import Config, found
from contrastive_jax.data.split import Source


class TrainBatches(Protocol):
  """Endless batches of one process.

  {'views', 'id', 'epoch', 'label', 'replaced'}, of which the last, bool [b],
  says which rows stand in for an example that could not be read, and what else
  the modality wants. `unreadable` names those examples, by id.
  """

  unreadable: dict[int, str]

  def __next__(self) -> dict[str, Any]:
    """Returns the next batch."""
    ...

  def close(self) -> None:
    """Stops reading ahead."""
    ...


class Preview(NamedTuple):
  """What is shown of examples and of their views: images, or texts.

  `views` is batch -> the views as they are shown, a sequence each; `example` is
  (reader, id) -> what stands in the first column; `titles` are one a view,
  `caption` says how they were made. `pictures` is (split, *, side, limit,
  whole) -> id -> the example, of at most `side` pixels, as evaluation sees it,
  or the whole of it.
  """

  views: Callable[[dict[str, Any]], tuple[Any, ...]]
  example: Callable[[Any, int], Any]
  titles: tuple[str, ...]
  caption: tuple[str, ...]
  pictures: Callable[..., dict[int, Any]]


class Modality(NamedTuple):
  """What the host and the device make of examples.

  Attributes:
    input_shape: of one example of a global view, as the encoder takes it.
    train_batches: (split, *, batch_size, seed, start_step, process_index,
      process_count) -> TrainBatches. The host's part of the augmentation; the
      leaves of its 'views' are what is sent to the devices.
    views: batch -> tuple of views, pure, on the device: the rest of the
      augmentation, and what the encoder takes.
    raw_views: batch -> tuple of views before that, pytrees with leaves [b,
      ...], of whose rows `render` makes what the encoder takes. So a part of
      them can be made at a time (`microbatch`). If not given, `views` are,
      and `render` leaves them as they are.
    render: see raw_views.
    places: batch -> of each view float32 [b, 5], what it shows of the example:
      top, left, height, width, in pixels, and whether it is mirrored. None: the
      examples have no such thing.
    example_views: rows -> tuple of views of zeros, for initialization.
    eval_batches: (split, *, batch_size, process_index, process_count, limit) ->
      {'input', 'id', 'label', 'mask'}: every example once, not augmented.
    text_batches: likewise of the text that is beside each example; None: there
      is none.
    frozen_input: the 'input' of these -> what the encoder takes, pure.
    baseline: the name of a representation without an encoder ('raw pixels'),
      and what makes its batches, as eval_batches does; their 'input' is
      flattened.
    preview: see `Preview`.
    plural: what examples are called.
    described: what one is, in a line; default: `input_shape`.
    of_texts: texts -> the 'input' of these, of one size for a number of them;
      None: examples are no texts.
    global_views: how many views are global; None: `augment.blur` says it.
    vocabulary: numbers that a token may be; 0: examples have no tokens.
    files: name -> text, what was fitted to the data and belongs to the run; its
      folder keeps it.
    notes: what was decided for the user, one line each.
  """

  input_shape: tuple[int, ...]
  train_batches: Callable[..., TrainBatches]
  views: Callable[[dict[str, Any]], tuple[Any, ...]]
  example_views: Callable[[int], tuple[Any, ...]]
  eval_batches: Callable[..., Iterator[dict[str, Any]]]
  frozen_input: Callable[[Any], Any]
  baseline: tuple[str, Callable[..., Iterator[dict[str, Any]]]]
  preview: Preview
  text_batches: Callable[..., Iterator[dict[str, Any]]] | None = None
  raw_views: Callable[[dict[str, Any]], tuple[Any, ...]] | None = None
  render: Callable[[Any], Any] = lambda rows: rows
  places: Callable[[dict[str, Any]], tuple[Any, ...]] | None = None
  plural: str = 'images'
  described: str = ''
  of_texts: Callable[[Sequence[str]], Any] | None = None
  global_views: int | None = None
  vocabulary: int = 0
  files: Mapping[str, str] = types.MappingProxyType({})
  notes: tuple[str, ...] = ()


def make(
  config: Config, source: Source, folder: pathlib.Path | None = None
) -> Modality:
  """Returns the modality of a source.

  Args:
    config: the whole config. What it leaves open ('the source's own size') is
      filled in, in place.
    source: its `modality` is a name, or `package.module:function`.
    folder: of a run that may have begun; its `files` are there, if so.

  Raises:
    ValueError: config and data do not fit together; one sentence.
  """
  known = [module.name for module in pkgutil.iter_modules(__path__)]
  name = source.modality
  if name == 'images' and config.text_encoder.name:
    name = 'image_text'
  module = found(name, 'source.modality', __name__, known)
  return getattr(module, 'make', module)(config, source.train, folder)
