"""Things that a config names: modules of this package, or functions outside."""

import difflib
import importlib
from collections.abc import Sequence
from typing import Any


def found(
  name: str, field: str, package: str = '', names: Sequence[str] = ()
) -> Any:
  """Returns what a config field names.

  Args:
    name: `package.module:function` of the user's own, or one of `names`.
    field: of the config, for the sentence.
    package: whose modules `names` are.
    names: the modules there are.

  Returns:
    The function, or the module.

  Raises:
    ValueError: there is no such thing; one sentence. What an existing module
      raises while it is imported passes through.
  """
  module_name, colon, attribute = name.partition(':')
  if not colon:
    if name in names:
      return importlib.import_module(f'{package}.{name}')
    near = difflib.get_close_matches(name, names, n=1)
    hint = f'did you mean {near[0]!r}?' if near else f'known: {list(names)}'
    kind = field.split('.')[0]
    raise ValueError(
      f'there is no {kind} {name!r} ({field}); {hint} Your own is written '
      'package.module:function'
    )
  try:
    module = importlib.import_module(module_name)
  except ModuleNotFoundError as error:
    if error.name and module_name.startswith(error.name):
      raise ValueError(
        f'{field} is {name!r}, but there is no module {error.name!r} on the '
        'Python path'
      ) from error
    raise
  if not callable(function := getattr(module, attribute, None)):
    raise ValueError(
      f'{field} is {name!r}, but {module_name} has no function {attribute!r}'
    )
  return function
