"""The data source digits: 1,797 handwritten digits of 8 x 8 pixels.

They come with scikit-learn, so that they need no network.
"""

from typing import Any

import numpy as np

from contrastive_jax.data.split import Source, from_arrays, hold_out

SPEC = 'digits'


def load(where: str, *, channels: int | None = None) -> Source:
  """Opens scikit-learn's digits; a fifth of every class is test, chosen by us.

  Args:
    where: empty: there is one set of digits.
    channels: 1, 3, or None for the 1 that they have.
  """
  del where
  import sklearn.datasets  # slow to import, and only needed here

  data: Any = sklearn.datasets.load_digits()
  images = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
  names = tuple(str(i) for i in range(10))
  train, test = (
    from_arrays(f'digits {s}', images[i], data.target[i], names, channels)
    for s, i in zip(('train', 'test'), hold_out(data.target), strict=True)
  )
  return Source('digits', train, test)
