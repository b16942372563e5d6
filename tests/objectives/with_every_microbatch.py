"""Every objective and option, its encoder run in parts: some five minutes.

python -m pytest -n0 tests/objectives/with_every_microbatch.py
"""

import pytest

from experiments import small_configs
from tests.objectives.contract_test import CONFIGS
from tests.objectives.microbatch_test import check_gradient


@pytest.mark.parametrize('name', [*CONFIGS, *small_configs.OPTIONS])
def test_the_gradient_is_that_of_the_whole_batch(name):
  check_gradient(name)
