"""Everything that a resumed run needs."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class TrainState:
  """One tree; the position in the data follows from `step`.

  Attributes:
    step: int32 scalar, optimizer updates done.
    params: what the optimizer trains.
    model_state: everything else that lives (batch statistics, target network,
      queue, center), as the objective has it.
    opt_state: of the optimizer.
    rng: the key from which an objective's own randomness is drawn.
  """

  step: jax.Array
  params: Any
  model_state: Any
  opt_state: Any
  rng: jax.Array
