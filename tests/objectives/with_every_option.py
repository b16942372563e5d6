"""What every objective owes, with the options that contract_test.py leaves out.

Some five minutes: python -m pytest -n0 tests/objectives/with_every_option.py
"""

import jax
import pytest

from experiments import small_configs
from tests.objectives import contract_test

OPTIONS = sorted(set(small_configs.OPTIONS) - set(contract_test.OPTIONS))

test_eight_devices_are_one = contract_test.test_eight_devices_are_one
test_late_in_a_run = contract_test.test_eight_devices_are_one_late_in_a_run
test_resumed = contract_test.test_a_resumed_run_is_the_same_to_the_bit
test_all_that_should_live_does = contract_test.test_all_that_should_live_does
test_what_is_said_of_a_run = contract_test.test_what_is_said_of_a_run


@pytest.fixture(scope='module', params=OPTIONS)
def name(request):
  """As that of contract_test.py."""
  yield request.param
  contract_test._trajectory.cache_clear()
  jax.clear_caches()
