"""Every objective and option, its encoder run in parts: some five minutes.

python -m pytest -n0 tests/objectives/with_every_microbatch.py
"""

import pytest

from tests.objectives.contract_test import NAMES
from tests.objectives.microbatch_test import check_gradient


@pytest.mark.parametrize('name', NAMES)
def test_the_gradient_is_that_of_the_whole_batch(name):
  check_gradient(name)
