"""One root key a run, and one branch of it for each purpose.

`fold_in` of small numbers is also what `split` does, so keys that come of one
parent by different ways meet. Here every purpose has a number of its own below
its parent, and whatever else is folded in (epoch, step, example, view) comes
below that.
"""

import enum

import jax


class Purpose(enum.IntEnum):
  """What a key of the root is for."""

  INITIALIZATION = 0
  STEP = 1  # an objective's own randomness; below it: the step, a `Draw`
  AUGMENTATION = 2  # below it: epoch, example id, view


class View(enum.IntEnum):
  """What is drawn apart for one view of an example, below AUGMENTATION."""

  BANDS = 0  # brightness and contrast of each channel
  CHANNEL_DROP = 1
  MASK = 2  # of patches
  MASKED_VIEW = 3  # whether it has any


class Draw(enum.IntEnum):
  """What an objective draws in a step."""

  SHUFFLE = 0  # the order of ghost groups
  NOISE = 1  # noise samples
  DROPOUT = 2  # of the trained networks
  TARGET_DROPOUT = 3  # of a target network in training mode
  DIRECTIONS = 4  # on which embeddings are projected


def of(seed: int, purpose: Purpose) -> jax.Array:
  """Returns the key of a purpose.

  Args:
    seed: of the run.
    purpose: what it is for.
  """
  return jax.random.fold_in(jax.random.key(seed), purpose)


def example(
  seed: int, epoch: jax.Array | int, example_id: jax.Array | int, view: int
) -> jax.Array:
  """Returns the key of everything random in one view of one example.

  Args:
    seed: of the run.
    epoch: scalar int32.
    example_id: scalar int32, the example's place in the data source.
    view: 0, 1, ...

  Returns:
    A typed key, which depends on these four numbers and on nothing else.
  """
  key = of(seed, Purpose.AUGMENTATION)
  for number in (epoch, example_id, view):
    key = jax.random.fold_in(key, number)
  return key


def draw(rng: jax.Array, what: Draw, number: jax.Array | int = 0) -> jax.Array:
  """Returns a key of one step of an objective.

  Args:
    rng: what `Objective.loss` is given.
    what: it is for.
    number: of the pass or the direction, if there are several.
  """
  return jax.random.fold_in(jax.random.fold_in(rng, what), number)
