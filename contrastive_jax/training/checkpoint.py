"""Checkpoints that notice their own damage.

Orbax writes them: asynchronously, and under a temporary name until they are
complete. It restores flipped bytes without an error, though, and casts a dtype
without a word, so the SHA-256 of every leaf is stored beside the state and
compared when it is read.

State goes to disk as host arrays, so nothing on disk depends on the devices.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from contrastive_jax.config import Error
from contrastive_jax.training import sidefiles

# Orbax's name for a step that is still being written.
_HALF_WRITTEN = '.orbax-checkpoint-tmp'
# Among the hashes of the leaves: of what else is stored, and of all with the
# step, as a folder may have been copied under another number.
_MORE, _ALL = '(more)', '(all, and the step)'


class Checkpoints:
  """The checkpoints of one run, its state replicated or in parts.

  With several processes, each of them must make every call.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    *,
    every_steps: int,
    keep: int,
    log: Callable[[str], Any] = print,
  ):
    """Opens a folder of checkpoints, and makes it if it is missing.

    Args:
      directory: the folder; all processes must see the same one.
      every_steps: steps between two checkpoints.
      keep: how many of the newest are kept.
      log: takes the sentences about damage; called by process 0 only.

    Raises:
      ValueError: if `every_steps` or `keep` is below 1.
    """
    if every_steps < 1 or keep < 1:
      raise Error(
        'checkpoints need every_steps and keep of at least 1, '
        f'not {every_steps} and {keep}'
      )
    directory = os.fspath(directory)
    if '://' not in directory:  # Orbax takes gs:// too, but no relative path
      directory = os.path.abspath(directory)
    policy = ocp.checkpoint_managers.LatestN(keep)
    self._manager = ocp.CheckpointManager(
      directory,
      options=ocp.CheckpointManagerOptions(preservation_policy=policy),
    )
    self._every_steps = every_steps
    self._log = log
    self._damaged: list[int] = []
    self._tidied = False
    self.more: dict[str, Any] = {}  # of `save`, of the checkpoint restored last

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, kind, *_) -> None:
    # What has ended the run is said, not that its checkpoint fails as well.
    with contextlib.suppress(*() if kind is None else (Error,)):
      self.close()

  def close(self) -> None:
    """Waits until everything is on disk.

    Raises:
      Error: a checkpoint could not be written.
    """
    with self._writing():
      self._manager.close()

  def steps(self) -> list[int]:
    """Returns the steps that there are checkpoints of, the oldest first."""
    return sorted(self._manager.all_steps())

  def restore(
    self, state: Any, step: int | None = None
  ) -> tuple[Any, int] | None:
    """Reads the newest intact checkpoint; changes nothing on disk.

    Args:
      state: the state to fill, or its `jax.ShapeDtypeStruct`s: gives tree,
        shapes, dtypes and shardings. The devices need not be those that wrote.
      step: of the checkpoint; None: the newest intact one.

    Returns:
      The state and its step, or None if no checkpoint was ever completed.

    Raises:
      ValueError: if checkpoints exist and none is intact, or if the newest
        intact one has other leaves, shapes or dtypes than `state`.
    """
    self._manager.wait_until_finished()
    self._manager.reload()
    directory = self._manager.directory
    for path in sorted(directory.iterdir()):
      if _HALF_WRITTEN in path.name:
        self._say(
          f'checkpoint {path} is incomplete (half-written) and is ignored'
        )
    steps = self.steps()[::-1]
    newest = steps[0] if steps else -1
    if set(_gather(newest)) != {newest}:
      raise Error(
        f'the processes see different checkpoints in {directory}: '
        'it must be one folder that all of them share'
      )
    damage = {}
    for number in steps if step is None else {step}.intersection(steps):
      leaves, more, reason = self._read(number)
      if not all(_gather(not reason)):
        damage[number] = reason or 'another process cannot read it'
        continue
      for broken, why in damage.items():
        self._say(
          f'checkpoint {directory / str(broken)} is damaged ({why}); '
          f'using step {number}'
        )
      self._damaged, self._tidied, self.more = list(damage), False, more
      _check_same_leaves(directory / str(number), leaves, state)
      return jax.tree.map(_place, state, _like(state, leaves)), number
    if damage and step is not None:
      raise Error(f'checkpoint {step} is damaged ({damage[step]})')
    if damage:
      reasons = '; '.join(f'step {n}: {why}' for n, why in damage.items())
      raise Error(
        f'no checkpoint in {directory} is intact ({reasons}); '
        'move the folder away to start from scratch'
      )
    return None

  def save(
    self,
    step: int,
    state: Any,
    *,
    force: bool = False,
    more: dict[str, Any] | None = None,
  ) -> bool:
    """Starts to write a checkpoint; `state` may be donated after the return.

    Args:
      step: the step that `state` has reached.
      state: any pytree of arrays.
      force: also when the step is no multiple of `every_steps`.
      more: a JSON object that is to be there when the state is restored.

    Returns:
      Whether a checkpoint was started; not if this step has one already.
    """
    # Orbax's own interval would always save at the first call.
    if not force and step % self._every_steps != 0:
      return False
    if not self._tidied:
      self._tidy()
    if step in self._manager.all_steps():
      return False
    for leaf in jax.tree.leaves(state):
      if isinstance(leaf, jax.Array) and leaf.is_fully_replicated:
        leaf.copy_to_host_async()
    state = jax.tree.map(_to_host, state)
    hashes = {name: _hash(leaf) for name, leaf in _named(state).items()}
    more = {} if more is None else more
    hashes[_MORE] = _hash_json(more)
    hashes[_ALL] = _hash_json([step, hashes])
    # Here the failure of the one before shows, too: it is written meanwhile.
    with self._writing():
      return self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          more=ocp.args.JsonSave(more),
          hashes=ocp.args.JsonSave(hashes),
        ),
        force=True,
      )

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Says in a sentence what Orbax and its helpers say in pages."""
    try:
      yield
    except Exception as error:  # of many classes, by no common name
      raise Error(
        f'a checkpoint cannot be written to {self._manager.directory} '
        f'({sidefiles.reason(error)}); those before it are intact, and the '
        'same command continues from the newest'
      ) from error

  def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict, str]:
    """Returns the leaves by name, `more`, and what is wrong, or ''."""
    path = self._manager.directory / str(step)
    try:
      # Not by the manager: after a success, but not after a failure, it waits
      # for the other processes. Without a target, Orbax gives the host arrays
      # as they were stored.
      stored = ocp.StandardCheckpointHandler().restore(
        path / 'state', args=ocp.args.StandardRestore()
      )
      leaves, more = _named(stored), {}
      hashes = dict(ocp.JsonCheckpointHandler().restore(path / 'hashes'))
      of_all = hashes.pop(_ALL, None)  # earlier versions have none
      if of_all is not None and of_all != _hash_json([step, hashes]):
        return {}, {}, 'it is of another step, or content hashes were changed'
      if (of_more := hashes.pop(_MORE, None)) is not None:
        more = dict(ocp.JsonCheckpointHandler().restore(path / 'more'))
        if _hash_json(more) != of_more:
          return (
            {},
            {},
            'content hash of what goes with the state does not match',
          )
      for name in sorted(leaves.keys() | hashes.keys()):
        if name not in leaves or _hash(leaves[name]) != hashes.get(name):
          return {}, {}, f'content hash of {name} does not match'
      return leaves, more, ''
    except MemoryError:
      raise
    except Exception as error:  # of many classes, Exception itself among them
      return {}, {}, f'cannot be read: {sidefiles.reason(error)}'

  def _tidy(self) -> None:
    """Removes half-written steps and renames damaged ones."""
    directory = self._manager.directory
    if jax.process_index() == 0:
      for path in directory.iterdir():
        if _HALF_WRITTEN in path.name:
          path.rmtree()
      for step in self._damaged:
        target, count = directory / f'damaged-{step}', 1
        while target.exists():
          count += 1
          target = directory / f'damaged-{step}-{count}'
        (directory / str(step)).rename(target)
        self._say(f'damaged checkpoint {step} is kept as {target}')
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices('checkpoints are tidy')
    self._manager.reload()
    self._tidied = True

  def _say(self, sentence: str) -> None:
    if jax.process_index() == 0:
      self._log(sentence)


def _gather(value: bool | int) -> list:
  """Returns the values of all processes."""
  if jax.process_count() == 1:
    return [value]
  return multihost_utils.process_allgather(np.asarray(value)).tolist()


def _is_key(leaf: Any) -> bool:
  return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(
    leaf.dtype, jax.dtypes.prng_key
  )


def _named(tree: Any) -> dict[str, Any]:
  """Returns the leaves under names like 'params/encoder/conv/kernel'."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _like(tree: Any, leaves: dict[str, Any]) -> Any:
  """Returns `tree` with the leaves of those names in place of its own."""
  return jax.tree.unflatten(
    jax.tree.structure(tree), [leaves[name] for name in _named(tree)]
  )


def _to_host(leaf: Any) -> np.ndarray:
  """Copies: on CPU, np.asarray is a view of a buffer soon to be donated."""
  if _is_key(leaf):
    leaf = jax.random.key_data(leaf)
  elif isinstance(leaf, jax.Array) and not leaf.is_fully_replicated:
    leaf = multihost_utils.process_allgather(leaf, tiled=True)
  return np.array(leaf)


def _place(leaf: Any, value: np.ndarray) -> Any:
  """Returns a stored value as what `leaf` is: type, sharding, random key."""
  if not hasattr(leaf, 'dtype'):
    return value.item()
  sharding = getattr(leaf, 'sharding', None)
  if sharding is None:
    array = jnp.asarray(value)
  else:
    array = jax.make_array_from_callback(
      value.shape, sharding, value.__getitem__
    )
  if not _is_key(leaf):
    return array
  impl = []  # key_impl takes a tracer, but no ShapeDtypeStruct
  jax.eval_shape(lambda key: impl.append(jax.random.key_impl(key)), leaf)
  return jax.random.wrap_key_data(array, impl=impl[0])


def _hash(value: np.ndarray) -> str:
  digest = hashlib.sha256(_describe(value).encode())
  digest.update(value.reshape(-1).view(np.uint8).data)
  return digest.hexdigest()


def _hash_json(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _describe(leaf: Any) -> str:
  """Returns dtype and shape, such as float32[3,3,64,64]."""
  if leaf is None:
    return 'absent'
  if _is_key(leaf):
    leaf = jax.eval_shape(jax.random.key_data, leaf)
  elif not hasattr(leaf, 'dtype'):
    leaf = np.asarray(leaf)
  return f'{leaf.dtype.name}[{",".join(map(str, leaf.shape))}]'


def _check_same_leaves(path: Any, stored: dict[str, Any], state: Any) -> None:
  wanted = _named(state)
  for name in wanted | stored:
    there, here = _describe(stored.get(name)), _describe(wanted.get(name))
    if there != here:
      raise Error(
        f'checkpoint {path} is of another config: '
        f'{name} is {there} there and {here} here'
      )
